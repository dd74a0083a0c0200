"""What the cpu profile renders to is what is checked in; see tests/golden/regenerate.py."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import pytest

from builder.disk.gpt import verity_slot_bytes
from tests.golden.regenerate import HERE, PARTS, render

HINT = "if this is meant: python -m tests.golden.regenerate, and look at git diff"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    before = os.umask(0o022)
    render(folder)
    os.umask(before)
    return folder


def listed(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for part in PARTS
        for path in (folder / part, *(folder / part).rglob("*"))
        if path.is_file()
    }


def test_the_same_files(rendered: Path) -> None:
    assert listed(rendered) == listed(HERE), HINT


@pytest.mark.parametrize("name", sorted(listed(HERE)))
def test_the_same_text(rendered: Path, name: str) -> None:
    if not filecmp.cmp(rendered / name, HERE / name, shallow=False):
        assert (rendered / name).read_text() == (HERE / name).read_text(), HINT


def test_the_golden_slots_are_a_pair(rendered: Path) -> None:
    """Both slots have the same sizes, so that an update fits where its predecessor did."""
    sizes = {
        path.name[:2]: {line for line in path.read_text().splitlines() if line.startswith("Size")}
        for path in (rendered / "repart.d").iterdir()
    }
    assert sizes["20"] == sizes["30"] == {"SizeMinBytes=1073741824", "SizeMaxBytes=1073741824"}
    verity = verity_slot_bytes(1 << 30)
    assert sizes["21"] == sizes["31"] == {f"SizeMinBytes={verity}", f"SizeMaxBytes={verity}"}


def test_the_root_hash_ties_command_line_and_partitions(rendered: Path) -> None:
    """systemd-gpt-auto-generator(8) finds the root by the two halves of the root hash."""
    digest = (rendered / "cmdline.txt").read_text().partition("roothash=")[2][:64]
    for name, half in (("20-root-a", digest[:32]), ("21-verity-a", digest[32:])):
        text = (rendered / "repart.d" / f"{name}.conf").read_text().replace("-", "")
        assert f"UUID={half}" in text

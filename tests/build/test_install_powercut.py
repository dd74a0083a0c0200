"""The power fails at POINTS of an installation: docs/decisions/installer.md.

The installer runs on the host, on a file that stands for an empty disk, while each write is
logged. The disk is rebuilt as a power cut at each of many seeded points may have left it: it boots
a whole version or nothing, and the next run of the installer makes a node of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.files import copy_sparse, remove_tree
from builder.core.process import Runner
from imgnode.install.order import Order
from tests.powercut.installs import Installs, Left, installer_root, told
from tests.powercut.judge import release_of
from tests.powercut.recording import Recording
from tests.vm.conftest import FOLDER, ROOT
from tests.vm.versions import make_versions

pytestmark = [pytest.mark.build, pytest.mark.long, pytest.mark.timeout(4 * 3600)]

POINTS = int(os.environ.get("POWERCUT_POINTS", "60"))
DICE = int(os.environ.get("POWERCUT_SEED", "1"))
VERSION = "1.0"
DISK = 4 << 30
_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"


def blank(path: Path) -> Path:
    with path.open("wb") as stream:
        stream.truncate(DISK)
    return path


@pytest.fixture(scope="module")
def installs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installs]:
    """Give a recorded installation onto an empty disk."""
    versions = make_versions(ROOT, tmp_path_factory.mktemp("versions"), FOLDER.parent)
    top, runner = versions.place.top, Runner()
    found = FOLDER.parent.glob("stages/tools/*/tree")
    try:
        versions.build(VERSION)
        versions.release(VERSION)
        tools = max(found, key=lambda one: one.stat().st_mtime)
        disk, recording = blank(top / "target.raw"), Recording(top / "writes.log")
        copy_sparse(runner, disk, recording.before)
        (top / "work").mkdir()
        (keyring,) = (top / "keys").glob("*.gpg")
        made = Installs(
            runner,
            recording,
            disk,
            release_of(top / "images" / VERSION),
            Order(
                releases=f"file://{versions.repository}",
                image_id="imgbuild-bare",
                disk="largest",
                seed={"user-data": "#cloud-config\nhostname: gpu-07\n"},
            ),
            installer_root(keyring, tools / _LOADER, top / "root"),
            tools,
            top / "work",
        )
        made.record(disk)
        yield made
    finally:
        runner.close()
        remove_tree(top)


def test_a_power_cut_at_any_point_costs_time_only(installs: Installs) -> None:
    rows: list[Left] = []
    for row in installs.judge(installs.cuts(POINTS, DICE)):
        rows.append(row)
        print(f"{row.cut}: {'boots' if row.boots else 'again'} {'; '.join(row.losses)}", flush=True)
    print("\n".join(["", *told(rows)]))
    assert len(rows) >= min(POINTS, 50)
    assert [row for row in rows if row.losses] == []

"""No unit of ours is more exposed than docs/security.md says and gives reasons for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/security.md"
# Those of overlays, too; what comes from a template stands rendered among the golden files.
FOLDERS = (
    "units/system",
    "overlays/*/usr/lib/systemd/system",
    "tests/golden/overlays/usr/lib/systemd/system",
)
UNITS = sorted(
    path
    for folder in FOLDERS
    for path in ROOT.glob(f"{folder}/*.service")
    if path.name.startswith("imgnode-") or path.name == "vllm.service"
)
WANTED = 2.5
ROW = re.compile(r"^\| `([a-z@-]+\.service)` \| ([0-9.]+) \| (.*?) ?\|$", re.MULTILINE)


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[float, str]]:
    return {name: (float(most), why) for name, most, why in ROW.findall(PAGE.read_text())}


@pytest.mark.allow_commands("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_as_closed_as_the_page_says(
    unit: Path, table: dict[str, tuple[float, str]], tmp_path: Path
) -> None:
    one = shutil.copy(unit, tmp_path / unit.name.replace("@.", "@x."))  # an instance of a template
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(one)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert match, done.stderr
    exposure = float(match[1])
    row = f"| `{unit.name}` | {exposure} | why it is more than {WANTED} |"
    assert unit.name in table, f"docs/security.md has no row of it: {row}"
    most, why = table[unit.name]
    assert exposure <= most, f"more exposed than docs/security.md says: {row}"
    assert most <= WANTED or len(why.split()) > 3, f"no reason in docs/security.md: {row}"


def test_the_page_names_no_unit_that_is_not_there(table: dict[str, tuple[float, str]]) -> None:
    assert set(table) == {unit.name for unit in UNITS}

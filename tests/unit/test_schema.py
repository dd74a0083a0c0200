"""The form of the state on /var: forward on a copy, back after a version that did not stay."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imgnode import process
from imgnode.schema import __main__ as command
from imgnode.schema import apply as schema
from imgnode.schema import report
from imgnode.schema.apply import Standing, apply, read_number, settle
from imgnode.schema.table import FIRST, TABLE, Migration

pytestmark = pytest.mark.allow_commands("cp", "sync")
ROOT = Path(__file__).parents[2]
BOOT_COUNT = "sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
ENTRY = "x_2+2-1.efi"
# Places that are too large to be copied, or that are read before anything of ours runs.
NEVER = {"layers", "models", "cache", "etc", "schema"}


class PowerCut(BaseException):
    """The end of everything, wherever it comes."""


def second(folder: Path) -> None:
    """Rename a key, as a release might."""
    file = folder / "model/proven.json"
    if file.exists():
        values = json.loads(file.read_text())
        file.write_text(json.dumps({"config": values["settings"]}))
    (folder / "gate/new").parent.mkdir(exist_ok=True)
    (folder / "gate/new").write_text("of the second form")


def third(folder: Path) -> None:
    (folder / "update/state.json").unlink(missing_ok=True)


ONE = TABLE
TWO = {**ONE, 2: Migration(("model", "gate"), second)}
THREE = {**TWO, 3: Migration(("update/state.json",), third)}


class Node:
    """A node's /var and its boot entry."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / schema.HOME
        for folder in ("model", "update", "layers"):
            (self.home / folder).mkdir(parents=True)
        self.put("model/proven.json", '{"settings": 1}')
        self.put("update/state.json", "serials")
        self.put("update/big", "stays")
        (self.home / "model").chmod(0o700)
        (self.home / "model/link").symlink_to("proven.json")
        facts = root / "usr/lib/imgnode/image.json"
        facts.parent.mkdir(parents=True)
        facts.write_text('{"image_id": "x", "version": "2"}')
        (root / "boot/EFI/Linux").mkdir(parents=True)

    def put(self, name: str, text: str) -> None:
        (self.home / name).write_text(text)

    def on_trial(self) -> None:
        path = self.root / BOOT_COUNT
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"\\EFI\\Linux\\{ENTRY}\0"
        path.write_bytes(struct.pack("<I", 6) + text.encode("utf-16-le"))
        (self.root / "boot/EFI/Linux" / ENTRY).touch()

    def as_good(self) -> None:
        (self.root / BOOT_COUNT).unlink(missing_ok=True)
        self.blessed()

    def blessed(self) -> None:
        (self.root / "boot/EFI/Linux" / ENTRY).unlink(missing_ok=True)
        (self.root / "boot/EFI/Linux/x_2.efi").touch()

    def state(self) -> dict[str, str]:
        """Return what anything but the schema's own code sees."""
        return {
            str(path.relative_to(self.home)): path.read_text()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and schema.WORK.name not in path.parts and path.name != "schema"
        }

    @property
    def kept(self) -> bool:
        return (self.root / schema.WORK).exists()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


FORM_2 = {"gate/new": "of the second form", "model/proven.json": '{"config": 1}'}


def test_the_table_has_no_gaps_and_small_places() -> None:
    assert sorted(TABLE) == list(range(FIRST, FIRST + len(TABLE)))
    for one in (*TABLE.values(), *THREE.values()):
        assert all(map(schema._PLACE.fullmatch, one.places))
        assert {place.split("/")[0] for place in one.places}.isdisjoint(NEVER)


def test_the_number_is_written_once_and_nothing_else(node: Node) -> None:
    before = node.state()
    assert apply(node.root) == Standing(1, 1)
    assert (node.root / schema.NUMBER).read_text() == "1\n"
    assert apply(node.root) == Standing(1, 1)
    assert node.state() == before
    assert not node.kept


def test_forward_on_a_copy_and_the_older_form_kept(node: Node) -> None:
    node.on_trial()
    apply(node.root, ONE)
    before = node.state()
    assert apply(node.root, TWO) == Standing(2, 2, 1, "brought from 1 to 2")
    assert node.state() == before | FORM_2 | {"model/link": FORM_2["model/proven.json"]}
    assert (node.home / "model").stat().st_mode & 0o777 == 0o700
    assert (node.home / "model/link").is_symlink()
    assert apply(node.root, TWO) == Standing(2, 2, 1)  # the next try of the same version


def test_the_older_version_finds_its_own_state(node: Node) -> None:
    node.on_trial()
    apply(node.root, ONE)
    before = node.state()
    apply(node.root, TWO)
    node.put("model/proven.json", "what the newer version has written since")
    node.put("update/big", "of no migration")
    node.as_good()
    found = apply(node.root, ONE)
    assert (found.number, found.kept) == (1, None)
    assert node.state() == before | {"update/big": "of no migration"}
    assert not node.kept


@pytest.mark.parametrize("how", ["bless", "next boot"])
def test_a_good_version_forgets_the_older_form(node: Node, how: str) -> None:
    node.on_trial()
    apply(node.root, TWO)
    assert not settle(node.root, TWO)  # still on trial
    assert node.kept
    node.as_good() if how == "next boot" else node.blessed()
    if how == "bless":
        assert settle(node.root, TWO)
    else:
        assert apply(node.root, TWO) == Standing(2, 2)
    assert not node.kept
    assert not settle(node.root, TWO)
    assert node.state().items() >= FORM_2.items()


def test_a_form_from_the_future_is_told_and_left_alone(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.as_good()
    apply(node.root, TWO)
    apply(node.root, TWO)
    before = node.state()
    assert command.main(["apply"], node.root) == 0
    assert node.state() == before
    assert read_number(node.root) == 2
    said = "state    NEWER: of form 2, this version knows 1; what it does not know is passed over"
    assert capsys.readouterr().err == f"{said}\n"
    assert report.lines(report.read(node.root)) == [said]
    lines = (node.root / "run/imgnode/metrics/schema.prom").read_text().splitlines()
    assert "imgnode_state_schema 2" in lines
    assert "imgnode_state_schema_known 1" in lines


def test_over_several_forms_and_back_to_one_that_knows_less(node: Node) -> None:
    """Version 1 came back after form 2 had become good; then form 3 does not stay."""
    node.as_good()
    apply(node.root, TWO)
    apply(node.root, TWO)
    apply(node.root, ONE)
    before = node.state()
    node.on_trial()
    assert apply(node.root, THREE) == Standing(3, 3, 2, "brought from 2 to 3")
    assert "update/state.json" not in node.state()
    node.as_good()
    assert apply(node.root, ONE).number == 2
    assert node.state() == before
    assert not node.kept
    assert apply(node.root, THREE).number == 3


def test_a_fresh_var(tmp_path: Path) -> None:
    assert apply(tmp_path, THREE) == Standing(3, 3, 1, "brought from 1 to 3")
    assert apply(tmp_path, THREE) == Standing(3, 3)


def test_a_migration_that_fails_leaves_the_state(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The unit fails, so the gate goes back; what was written meanwhile goes, too."""
    node.on_trial()
    before = node.state()
    bad = {**ONE, 2: Migration(("model",), lambda folder: (folder / "none/x").touch())}
    monkeypatch.setattr(command, "apply", lambda root: apply(root, bad))
    for _ in range(2):
        assert command.main(["apply"], node.root) == 1
        assert node.state() == before
        assert "state    CANNOT BE USED: FileNotFoundError" in capsys.readouterr().err
        told = report.read(node.root)
        assert told is not None
        assert told["number"] is None
    node.put("model/proven.json", "written by a version that takes it for form 2")
    node.as_good()
    apply(node.root, ONE)
    assert node.state() == before
    assert not node.kept


@pytest.mark.parametrize("trial", [True, False])
def test_another_try_begins_with_what_the_older_version_left(node: Node, trial: bool) -> None:
    """On trial; a version that stayed without its form has written what counts by then."""
    if trial:
        node.on_trial()
    bad = {**ONE, 2: Migration(("gate", "model"), lambda folder: (folder / "none/x").touch())}
    with pytest.raises(OSError, match="none/x"):
        apply(node.root, bad)
    node.put("model/proven.json", '{"settings": "since"}')
    apply(node.root, TWO)
    left = '{"config": 1}' if trial else '{"config": "since"}'
    assert node.state()["model/proven.json"] == left


@pytest.mark.parametrize("text", ["", "two\n", "-1\n", "0\n", "2", "2\n3\n"])
def test_a_number_that_is_none(node: Node, text: str) -> None:
    node.put("schema", text)
    before = node.state()
    with pytest.raises(ValueError, match="holds no number"):
        apply(node.root, TWO)
    assert node.state() == before


@pytest.mark.parametrize(
    "changes",
    [{"source": "/etc"}, {"places": ["../x"]}, {"places": ["/etc"]}, {"places": 7}, {"number": []}],
)
def test_a_mark_that_leads_elsewhere(node: Node, changes: dict[str, Any]) -> None:
    mark = node.root / schema._NEXT_FILE
    mark.parent.mkdir()
    mark.write_text(json.dumps({"number": 2, "source": "new", "places": ["model"], **changes}))
    before = node.state()
    with pytest.raises(ValueError, match="cannot be understood"):
        apply(node.root, TWO)
    assert node.state() == before


def cut_off(node: Node, table: schema.Table, at: int) -> bool:
    """Apply, with the power cut at the `at`th thing that is done to the disk, if so many are."""
    done = [0]

    def counted(genuine: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it takes
            done[0] += 1
            if done[0] == at:
                raise PowerCut
            return genuine(*words, **options)

        return step

    doors = ((process, "run"), (schema, "write_atomic"), (shutil, "rmtree"), (Path, "unlink"))
    with pytest.MonkeyPatch.context() as patch:
        for where, name in doors:
            patch.setattr(where, name, counted(getattr(where, name)))
        try:
            apply(node.root, table)
        except PowerCut:
            return True
    return False


@pytest.mark.parametrize("after", ["again", "older"])
def test_a_power_cut_at_any_step_forward(tmp_path: Path, after: str) -> None:
    """The same version goes on to the end; the older one comes back to what it had."""
    for at in count(1):
        node = Node(tmp_path / f"{at}")
        node.on_trial()
        apply(node.root, ONE)
        before = node.state()
        cut = cut_off(node, TWO, at)
        if after == "again":
            found = apply(node.root, TWO)
            assert (found.number, found.kept) == (2, 1)
            assert node.state().items() >= FORM_2.items()
        node.as_good()
        assert apply(node.root, ONE).number == 1
        assert node.state() == before
        assert not node.kept
        if not cut:
            break
    assert at > 15


def test_a_power_cut_at_any_step_back(tmp_path: Path) -> None:
    for at in count(1):
        node = Node(tmp_path / f"{at}")
        node.on_trial()
        apply(node.root, ONE)
        before = node.state()
        apply(node.root, TWO)
        node.as_good()
        cut = cut_off(node, ONE, at)
        found = apply(node.root, ONE)
        assert (found.number, found.kept) == (1, None)
        assert node.state() == before
        assert not node.kept
        if not cut:
            break
    assert at > 8


def values(name: str, key: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and line[0] != "#"]
    return [word for known, value in pairs if known == key for word in value.split()]


def test_nothing_reads_the_state_before() -> None:
    """Units come after sysinit.target unless they say otherwise (systemd.service(5))."""
    unit = "units/system/imgnode-schema.service"
    assert values(unit, "WantedBy") == ["sysinit.target"]
    assert values(unit, "DefaultDependencies") == ["no"]
    before = {*values(unit, "Before"), "imgnode-schema.service"}
    assert "sysinit.target" in before
    for path in (ROOT / "units/system").glob("*.service"):
        early = "no" in values(f"units/system/{path.name}", "DefaultDependencies")
        after = values(f"units/system/{path.name}", "After")
        assert path.name in before or not early or "sysinit.target" in after, path.name
    preset = (ROOT / "units/system-preset/00-imgnode.preset").read_text().splitlines()
    assert "enable imgnode-schema.service" in preset


def test_the_older_form_goes_when_the_version_is_blessed() -> None:
    name = "overlays/boot/usr/lib/systemd/system/systemd-bless-boot.service.d/50-imgnode.conf"
    assert values(name, "ExecStartPost") == ["-/usr/bin/python3", "-m", "imgnode.schema", "settle"]

"""Which files may go: those that no installed version names, and only when that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgnode.layers.store import Store
from imgnode.layers.versions import Garbage, find_garbage, installed_stems, remove, write_list
from imgnode.process import Finished
from tests.unit.layers_node import STEM, Node, payload, play

OLD, GONE = "imgbuild-test_2025.9", "imgbuild-test_2025.1"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Run version 2026.1 of parts 0 and 1; 2025.9 in the other slot shares part 0."""
    played = play(tmp_path, monkeypatch)
    played.have("part0", "part1", "old", "gone")
    played.labels = ["ESP", STEM, STEM, OLD, OLD, "cidata", "var"]
    store = Store(tmp_path)
    for stem, names in {OLD: ("part0", "old"), GONE: ("part0", "gone")}.items():
        write_list(stem, [played.file(name).name for name in names], store)
    return played


def names(node: Node) -> set[str]:
    known = {node.file(name).name: name for name in ("part0", "part1", "old", "gone")}
    return {known[path.name] for path in node.store.glob("*.erofs")}


def test_what_two_versions_share_stays_and_what_none_names_goes(node: Node) -> None:
    report = node.apply()
    assert report.good
    assert names(node) == {"part0", "part1", "old"}
    lists = {path.stem for path in (node.store / "versions").iterdir()}
    assert lists == {STEM, OLD}
    assert node.file("gone").name in report.notes[-1]


def test_after_an_update_of_the_other_slot_its_files_go(node: Node) -> None:
    node.labels = [STEM, "_empty"]
    node.apply()
    assert names(node) == {"part0", "part1"}


def test_the_running_version_stays_without_a_label(node: Node) -> None:
    node.labels = ["_empty"]
    node.apply()
    assert (node.store / "versions" / f"{STEM}.json").exists()
    assert names(node) == {"part0", "part1"}


def test_an_installed_version_without_a_list_keeps_everything(node: Node) -> None:
    node.labels.append("imgbuild-test_2026.2")
    report = node.apply()
    assert report.good
    assert names(node) == {"part0", "part1", "old", "gone"}
    assert report.notes[-1] == (
        "nothing is removed: nothing says which files imgbuild-test_2026.2 needs"
    )
    assert (node.store / "versions" / f"{GONE}.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 7}'])
def test_a_damaged_list_of_an_installed_version_keeps_everything(node: Node, text: str) -> None:
    (node.store / "versions" / f"{OLD}.json").write_text(text)
    assert "which files imgbuild-test_2025.9 needs" in node.apply().notes[-1]
    assert len(names(node)) == 4


def test_a_damaged_list_of_a_version_that_is_gone_goes(node: Node) -> None:
    (node.store / "versions" / f"{GONE}.json").write_text("{")
    node.apply()
    assert len(names(node)) == 3


@pytest.mark.parametrize("broken", ["NAME,TYPE", "PARTLABEL"])
def test_a_disk_that_cannot_be_listed_keeps_everything(
    node: Node, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = node.run
    monkeypatch.setattr(
        "imgnode.process.run",
        lambda argv, *, timeout_s: (
            Finished(32, "", "no") if broken in argv else genuine(argv, timeout_s=timeout_s)
        ),
    )
    assert installed_stems(node.root) is None
    assert node.apply().notes[-1] == "nothing is removed: this disk's partitions cannot be listed"
    assert len(names(node)) == 4


def test_only_this_disk_is_asked(node: Node) -> None:
    assert installed_stems(node.root) == {STEM, OLD}
    first, second = node.asked
    assert first[:3] == ["lsblk", "-nrspo", "NAME,TYPE"]
    assert first[3].startswith("/dev/block/")
    assert second == ["lsblk", "-nro", "PARTLABEL", "/dev/vda"]


@pytest.mark.parametrize("label", ["esp", "ESP", "CIDATA", "var", "_empty", "empty", ""])
def test_labels_that_are_no_versions(node: Node, label: str) -> None:
    node.labels = [label]
    assert installed_stems(node.root) == set()


def test_what_is_mounted_stays(node: Node) -> None:
    node.apply()
    node.set(payload(1))
    node.have("gone")
    report = node.apply()
    assert node.file("gone").name in report.notes[-1]
    assert "part1" in names(node)


def test_parts_that_nobody_needs_go(node: Node) -> None:
    for name in ("part1", "gone"):
        node.write(f"var/lib/imgnode/layers/.part/{node.file(name).name}", "x")
    node.apply()
    parts = [path.name for path in (node.store / ".part").iterdir()]
    assert parts == [node.file("part1").name]


def test_other_files_are_not_ours(node: Node) -> None:
    node.write("var/lib/imgnode/layers/notes.txt", "x")
    node.write("var/lib/imgnode/layers/short.erofs", "x")
    node.apply()
    assert (node.store / "notes.txt").exists()
    assert (node.store / "short.erofs").exists()


def test_the_lists_go_last(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.apply()
    order: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: order.append(path.name))
    remove(Garbage(files=("f",), parts=("p",), lists=("l",)), Store(node.root))
    assert order == ["f", "p", "l.json"]


def test_looking_removes_nothing(node: Node) -> None:
    write_list(STEM, [one.name for one in node.payload().files], Store(node.root))
    found = find_garbage(node.root)
    assert found == Garbage(files=(node.file("gone").name,), lists=(GONE,))
    assert len(names(node)) == 4

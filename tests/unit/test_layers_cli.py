"""`imgnode layers`: what people and machines read, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgnode import cli
from imgnode.commands import layers
from imgnode.layers import apply as apply_module
from imgnode.layers import look as look_module
from tests.unit.layers_node import Node, payload, play


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    played = play(tmp_path, monkeypatch)
    monkeypatch.setattr(layers, "_ROOT", tmp_path)
    monkeypatch.setattr(layers, "apply", lambda: apply_module.apply(tmp_path))
    monkeypatch.setattr(
        layers, "verify", lambda *, repair: look_module.verify(tmp_path, repair=repair)
    )
    played.set(payload(2, "org/small"))
    return played


def call(*words: str) -> int:
    try:
        cli.main(["layers", *words])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)
            return 1
        return int(end.code or 0)
    return 0


def test_apply_ends_by_what_it_found(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("apply") == 1
    assert "layer part0" in capsys.readouterr().err
    node.have("part0", "part1", "org/small")
    assert call("apply") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "layers: 3 files, 3 mounted\n" in told.out


def test_status_of_every_state(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.set(payload(4, "org/small"))
    node.have("part0", "part1", "part2", "org/small")
    node.serve("part3")
    call("apply")
    node.damage("part1")
    device = f"imgnode-{node.file('part2').root_hash[:16]}"
    node.in_use.clear()
    place = next(p for p, d in node.mounted.items() if d.endswith(device))
    node.run(["umount", place], timeout_s=1)
    node.run(["umount", next(p for p in node.mounted if node.file("part3").root_hash in p)],
             timeout_s=1)  # fmt: skip
    node.path("part3").unlink()
    capsys.readouterr()
    assert call("status") == 0
    lines = capsys.readouterr().out.splitlines()
    short = {name: node.file(name).root_hash[:12] for name in ("part0", "org/small")}
    assert lines[0] == f"part0      {short['part0']}     12 KiB  mounted"
    assert [line.split("KiB  ")[1] for line in lines[:5]] == [
        "mounted", "corrupt", "not mounted", "missing", "mounted",
    ]  # fmt: skip
    assert lines[4].startswith(f"org/small  {short['org/small']}")
    image = node.payload().container
    assert image is not None
    assert lines[5] == f"Docker should list imgnode/vllm:2026.1 ({image.image_id[:12]})"


def test_status_for_machines(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.have("part0")
    assert call("status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    image = node.payload().container
    assert image is not None
    assert told["image"] == {"reference": image.reference, "image_id": image.image_id}
    assert told["files"][1] == {
        "what": "part1",
        "root_hash": node.file("part1").root_hash,
        "bytes": 12288,
        "state": "missing",
    }


def test_status_of_a_wrong_size(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.have("part0")
    node.path("part0").write_bytes(b"short")
    call("status")
    assert "corrupt" in capsys.readouterr().out.splitlines()[0]


def test_status_of_an_image_with_nothing_outside(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.set(payload(0))
    call("status")
    assert capsys.readouterr().out == "this version has nothing outside its root\n"
    call("status", "--json")
    assert json.loads(capsys.readouterr().out) == {"files": [], "image": None}


def test_sizes_are_for_people() -> None:
    sizes = [layers._size(count) for count in (1, 5 * 1024, 3 * 1024**2, 25 * 1024**3)]
    assert sizes == ["1 B", "5 KiB", "3.0 MiB", "25.0 GiB"]


def test_verify_reads_every_byte(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.have("part0", "part1", "org/small")
    call("apply")
    assert call("verify") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "layers: 3 of 3 files are whole"
    data = node.path("part1").read_bytes()
    node.path("part1").write_bytes(data[:-1] + b"?")
    assert call("verify") == 1
    told = capsys.readouterr()
    assert told.out == "layers: 2 of 3 files are whole\n"
    assert "part1" in told.err
    assert "is not as the image's list says (hint: imgnode layers verify --repair)" in told.err
    assert "imgnode_layers_corrupt 1\n" in node.text("run/imgnode/metrics/layers.prom")
    assert node.path("part1").exists()
    node.path("org/small").unlink()
    assert call("verify") == 1
    assert "is not in" in capsys.readouterr().err


def test_verify_can_repair(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.have("part0", "part1", "org/small")
    node.serve("part1")
    call("apply")
    good = node.path("part1").read_bytes()
    node.path("part1").write_bytes(b"?" + good[1:])
    assert call("verify", "--repair") == 0
    assert node.path("part1").read_bytes() == good
    assert "layers: 3 of 3 files are whole\n" in capsys.readouterr().out
    assert len(node.mounted) == 3


def test_verify_says_what_is_in_use(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.have("part0", "part1", "org/small")
    node.serve("part1")
    call("apply")
    node.path("part1").write_bytes(b"?" * 12288)
    node.in_use.add(f"imgnode-{node.file('part1').root_hash[:16]}")
    assert call("verify", "--repair") == 1
    assert "in use: Device is busy (hint: stop the containers" in capsys.readouterr().err
    assert len(node.mounted) == 3


def test_gc(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.have("part0", "part1", "org/small")
    call("apply")
    node.have("gone")
    name = node.file("gone").name
    capsys.readouterr()
    assert call("gc", "--dry-run") == 0
    assert capsys.readouterr().out == f"would remove {name}\n"
    assert call("gc") == 0
    assert capsys.readouterr().out == f"removed {name}\n"
    assert call("gc") == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    node.labels.append("imgbuild-test_9")
    assert call("gc") == 1
    assert "nothing says which files imgbuild-test_9 needs" in capsys.readouterr().out


def test_want_of_rights_is_one_line(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/run/imgnode/layers.lock")

    monkeypatch.setattr(layers, "locked", refused)
    assert call("gc") == 1
    assert node.asked == []
    assert capsys.readouterr().out == ("imgnode: /run/imgnode/layers.lock: Permission denied\n")

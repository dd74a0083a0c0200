"""The guard below a folder that plays the node's root: what serves after which seeds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from imgnode import guard, lastgood
from imgnode.nodeconfig import read_errors, read_node
from imgnode.problems import Problem
from imgnode.seed import META, NETWORK, USER, judge
from imgnode.seeddisk import Found

GOOD = b"""#cloud-config
hostname: gpu-07
ssh_authorized_keys: [old]
inference: {model: org/small, max_model_len: 2048}
"""
GOOD_CONFIG = {"model": "org/small", "max_model_len": 2048}
CLOUD = "var/lib/cloud/seed/nocloud"


class Node:
    """A node's root; `boot` runs the guard with the given files on its seed partition."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._monkeypatch = monkeypatch

    def boot(self, user: bytes | None, **others: bytes) -> list[str]:
        files = {} if user is None else {USER: user}
        files |= {name.replace("_", "-"): data for name, data in others.items()}
        found = Found("/dev/vda6", files)
        if user is None:
            found = Found(problems=(Problem("seed", "/dev/vda6 holds no user-data"),))
        self._monkeypatch.setattr(guard, "find_seed", lambda _: found)
        return [str(one) for one in guard.apply(self.root)]

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    def cloud(self) -> dict[str, Any]:
        text = self.text(f"{CLOUD}/{USER}")
        assert text.startswith("#cloud-config\n")
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    def serves(self) -> tuple[str, dict[str, Any]]:
        node = read_node(self.root)
        assert node is not None
        return node.source, node.inference


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    (tmp_path / "usr/lib/imgnode").mkdir(parents=True)
    (tmp_path / "usr/lib/imgnode/image.json").write_text('{"gpus": 0}')
    return Node(tmp_path, monkeypatch)


def test_a_good_seed(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.boot(GOOD, meta_data=b"local-hostname: x\n", network_config=b"version: 2\n") == []
    assert node.serves() == ("seed", GOOD_CONFIG)
    assert node.cloud() == {"hostname": "gpu-07", "ssh_authorized_keys": ["old"]}
    meta = yaml.safe_load(node.text(f"{CLOUD}/{META}"))
    assert meta["local-hostname"] == "x"
    assert meta["instance-id"].startswith("imgnode-")
    assert yaml.safe_load(node.text(f"{CLOUD}/{NETWORK}")) == {"version": 2}
    assert "imgnode_seed_error 0\n" in node.text("run/imgnode/metrics/seed.prom")
    assert not (node.root / "run/imgnode/seed-error.json").exists()
    assert not (node.root / "run/imgnode/seed.issue").exists()
    assert read_errors(node.root) == []
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out == "seed /dev/vda6 is good; inference: seed\n"


def test_cloud_init_never_sees_inference(node: Node) -> None:
    node.boot(GOOD)
    assert "inference" not in node.text(f"{CLOUD}/{USER}")


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (b"#cloud-config\na: &a [x]\nb: [*a, *a]\n", "user-data"),
        (b"#cloud-config\n" + b"# padding\n" * 1_000_000, "user-data"),
        (b"\x00\xff\xfe", "user-data"),
        (b"", "user-data"),
        (b"#cloud-config\n: : [\n", "user-data"),
        (None, "seed"),
    ],
    ids=["anchors", "10 MB", "binary", "empty", "no YAML", "no seed"],
)
def test_a_seed_that_cannot_be_read(node: Node, user: bytes | None, key: str) -> None:
    node.boot(GOOD, network_config=b"version: 2\n")
    (told,) = node.boot(user)
    assert node.serves() == ("last good seed", GOOD_CONFIG)
    assert node.cloud() == {"hostname": "gpu-07", "ssh_authorized_keys": ["old"]}
    assert yaml.safe_load(node.text(f"{CLOUD}/{NETWORK}")) == {"version": 2}
    assert f"seed: {told}\n" in node.text("run/imgnode/seed.issue")
    assert [one.text for one in read_errors(node.root)] == [told]
    assert "imgnode_seed_error 1\n" in node.text("run/imgnode/metrics/seed.prom")
    line = f'imgnode_config_errors{{key="{key}"}} 1\n'
    assert line in node.text("run/imgnode/metrics/seed.prom")


def test_a_bad_inference_part_keeps_the_new_keys(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.boot(GOOD)
    capsys.readouterr()
    new = b"#cloud-config\nhostname: gpu-08\nssh_authorized_keys: [new]\n"
    told = node.boot(
        new + b"inference: {model: a/b, max_model_length: 5, tensor_parallel_size: 3}\n"
    )
    assert len(told) == 2
    assert node.cloud() == {"hostname": "gpu-08", "ssh_authorized_keys": ["new"]}
    assert node.serves() == ("last good seed", GOOD_CONFIG)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("<3>seed: inference.max_model_length: unknown key")
    assert lines[-1] == "<3>seed: inference comes from: last good seed"


def test_a_faulty_key_comes_from_the_last_good_seed(node: Node) -> None:
    node.boot(GOOD)
    node.boot(b"#cloud-config\nhostname: [x]\ntimezone: Etc/UTC\ninference: {model: a/b}\n")
    assert node.cloud() == {"hostname": "gpu-07", "timezone": "Etc/UTC"}
    assert node.serves() == ("seed", {"model": "a/b"})
    config = read_node(node.root)
    assert config is not None
    assert config.replaced == ("hostname",)
    assert "from the last good seed: hostname" in node.text("run/imgnode/seed.issue")


def test_a_bad_meta_data_comes_from_the_last_good_seed(node: Node) -> None:
    node.boot(GOOD, meta_data=b"instance-id: one\n")
    node.boot(GOOD, meta_data=b"instance-id: two\nseedfrom: http://x/\n")
    assert yaml.safe_load(node.text(f"{CLOUD}/{META}"))["instance-id"] == "one"


def test_a_bad_first_seed_leaves_the_defaults(node: Node) -> None:
    assert len(node.boot(b"\x00")) == 1
    assert node.serves() == ("default", {})
    assert node.cloud() == {}
    assert lastgood.load(node.root) == {}


def test_no_seed_at_all_is_said(node: Node) -> None:
    assert node.boot(None) == ["seed: /dev/vda6 holds no user-data"]
    assert node.serves() == ("default", {})
    assert "inference comes from: default" in node.text("run/imgnode/seed.issue")


def test_a_mended_seed_clears_everything(node: Node) -> None:
    node.boot(b"\x00")
    assert node.boot(GOOD) == []
    assert read_errors(node.root) == []
    assert not (node.root / "run/imgnode/seed.issue").exists()
    assert node.text("run/imgnode/metrics/seed.prom").count("imgnode_config_errors{") == 0


def test_only_a_seed_without_mistake_is_kept(node: Node) -> None:
    node.boot(GOOD)
    node.boot(b"#cloud-config\nhostname: x\ninference: {modl: y}\n")
    assert lastgood.load(node.root) == {USER: GOOD}
    node.boot(b"#cloud-config\nhostname: x\n")
    assert lastgood.load(node.root) == {USER: b"#cloud-config\nhostname: x\n"}
    folders = [p for p in (node.root / "var/lib/imgnode/seed").iterdir() if not p.is_symlink()]
    assert len(folders) == 1


def test_a_kept_seed_is_private(node: Node) -> None:
    node.boot(GOOD)
    store = node.root / "var/lib/imgnode/seed"
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / "good" / USER).stat().st_mode & 0o777 == 0o600


def test_the_same_seed_is_not_written_again(node: Node) -> None:
    node.boot(GOOD)
    before = (node.root / "var/lib/imgnode/seed/good" / USER).stat()
    node.boot(GOOD)
    assert (node.root / "var/lib/imgnode/seed/good" / USER).stat() == before


def test_a_full_var_is_told_and_the_seed_serves(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lastgood, "save", full)
    (told,) = node.boot(GOOD)
    assert "cannot be kept on /var: No space left on device" in told
    assert node.serves() == ("seed", GOOD_CONFIG)


def test_a_power_cut_leaves_the_old_or_the_new(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.boot(GOOD)
    other = {USER: b"#cloud-config\nhostname: other\n"}
    genuine, steps, cuts = os.fsync, [], [0]

    def cut(handle: int) -> None:
        steps.append(handle)
        if len(steps) == cuts[0]:
            raise OSError(5, "cut")
        genuine(handle)

    monkeypatch.setattr(os, "fsync", cut)
    for step in range(1, 9):
        steps.clear()
        cuts[0] = step
        try:
            lastgood.save(other, node.root)
        except OSError:
            assert lastgood.load(node.root) in ({USER: GOOD}, other)
    assert lastgood.load(node.root) == other


def test_a_kept_seed_that_a_newer_image_refuses_costs_only_that_part(node: Node) -> None:
    node.boot(GOOD)
    (node.root / "var/lib/imgnode/seed/good" / USER).write_bytes(
        b"#cloud-config\nhostname: kept\ninference: {old_key: 1}\n"
    )
    node.boot(b"\x00")
    assert node.serves() == ("default", {})
    assert node.cloud() == {"hostname": "kept"}


def test_a_fault_of_ours_costs_the_seed_not_the_boot(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.boot(GOOD)

    def broken(files: dict[str, bytes], *, gpus: int | None) -> object:
        if files[USER] != GOOD:
            raise RecursionError
        return judge(files, gpus=gpus)

    monkeypatch.setattr(guard, "judge", broken)
    assert node.boot(b"#cloud-config\n") == [
        "seed: a fault in imgnode: RecursionError (hint: report it)"
    ]
    assert node.serves() == ("last good seed", GOOD_CONFIG)


def test_the_console_is_not_flooded_nor_tricked(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = "".join(f'"k{n}\\e[2J\\\\n": 1\n' for n in range(50))
    node.boot(f"#cloud-config\n{keys}".encode())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert "and 42 more: imgnode status" in lines[-2]
    issue = node.text("run/imgnode/seed.issue")
    assert "\x1b" not in issue
    assert "\\\\n" in issue  # agetty shows \\ as one backslash
    assert "\x1b" not in node.text("run/imgnode/metrics/seed.prom")


def test_an_image_that_does_not_count_gpus(node: Node) -> None:
    (node.root / "usr/lib/imgnode/image.json").write_text("{}")
    assert node.boot(b"#cloud-config\ninference: {tensor_parallel_size: 3}\n") == []
    (node.root / "usr/lib/imgnode/image.json").write_text(json.dumps({"gpus": 8}))
    assert len(node.boot(b"#cloud-config\ninference: {tensor_parallel_size: 3}\n")) == 1

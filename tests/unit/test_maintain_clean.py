"""The clean-up: what goes, and above all what never does."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from imgnode import cli, process
from imgnode.commands import maintenance as command
from imgnode.layers import versions
from imgnode.layers.store import Store
from imgnode.maintain import models
from imgnode.maintain.clean import clean
from imgnode.models.store import BY_HAND, FETCHED, MANIFEST, Weights, manifest
from tests.unit import serve_node

DAY = 86400
OWN = "sha256:" + "cd" * 32  # serve_node's container
SETTINGS = {"calendar": "04:30", "jitter": "1h", "models_keep_days": 30, "var_min_free_percent": 10}


class Node:
    """A node with Docker, whose programs are played."""

    def __init__(self, root: Path) -> None:
        self.root = serve_node.make(root, {"model": "Org/Wanted"}, maintenance=SETTINGS)
        (root / "var/lib/imgnode/layers").mkdir(parents=True)
        (root / "var/log").mkdir(parents=True)
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/docker").touch()
        serve_node.put(root / "proc/self/mountinfo", "")
        self.calls: list[str] = []
        self.containers = ""
        self.images = f"{OWN} imgbuild/vllm-cpu:1\n"
        self.in_use: set[str] = set()
        self.stuck = ""
        self.docker_rc = 0

    def run(self, argv: list[str], *, timeout_s: float, stdin: str = "") -> process.Finished:  # noqa: ARG002
        words = " ".join(argv)
        self.calls.append(words)
        rc, out = 0, ""
        if argv[0] == "docker":
            rc = self.docker_rc
        if words == "docker container ls --all --quiet":
            out = "".join(f"c{number}\n" for number, _ in enumerate(self.in_use))
        elif words.startswith("docker container ls"):
            out = self.containers
        elif words.startswith("docker container inspect"):
            out = "".join(f"{one}\n" for one in sorted(self.in_use))
        elif words.startswith("docker image ls"):
            out = self.images
        elif words.startswith("docker image rm"):
            rc = int(argv[-1] == self.stuck)
        return process.Finished(rc, out, "no answer" if rc else "")

    def acted(self, program: str) -> list[str]:
        """Return the calls that change something."""
        asks = ("docker container ls", "docker container inspect", "docker image ls")
        return [one for one in self.calls if one.startswith(program) and not one.startswith(asks)]

    def model(self, name: str, *, days: float, source: str = FETCHED) -> Path:
        """Put a model there that was last used so many days ago."""
        folder = self.root / f"var/lib/imgnode/models/{name.replace('/', '--')}/main"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        if source == FETCHED:
            (folder / MANIFEST).write_text(manifest(name, "main", {}))
            when = time.time() - days * DAY
            os.utime(folder / MANIFEST, (when, when))
        return folder


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    monkeypatch.setattr(versions, "installed_stems", lambda _: set())
    space(monkeypatch, free=50)
    versions.write_list("x_1", [], Store(tmp_path))
    return made


def space(monkeypatch: pytest.MonkeyPatch, *, free: int) -> None:
    usage = shutil._ntuple_diskusage(100, 100 - free, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def cleaned(node: Node, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
    said: list[str] = []
    faults = clean(said.append, node.root, dry_run=dry_run)
    return said, faults


def test_a_tidy_node_loses_nothing(node: Node) -> None:
    kept = node.model("Org/Wanted", days=400)
    assert cleaned(node) == ([], [])
    assert kept.is_dir()
    assert node.acted("docker") == ["docker builder prune --force --filter=until=24h"]


def test_images_and_containers_that_no_version_brought_go(node: Node) -> None:
    node.containers = "c1 try\nc2 vllm\n"
    node.images += "sha256:1 debian:12\nsha256:2 <none>:<none>\nsha256:3 busy:1\nsha256:4 stuck:1\n"
    node.in_use, node.stuck = {"sha256:3", OWN}, "stuck:1"
    said, faults = cleaned(node)
    assert faults == []
    assert said == [
        "removed container try",
        "removed image debian:12",
        "removed image <none>:<none>",
    ]
    gone = [one for one in node.acted("docker") if " rm " in one]
    assert gone == [
        "docker container rm c1",
        "docker image rm debian:12",
        "docker image rm sha256:2",
        "docker image rm stuck:1",
    ]


def test_a_copy_of_the_versions_image_stays(node: Node) -> None:
    marker = {"id": "sha256:c0", "digest": serve_node.DIGEST}
    serve_node.put(node.root / "run/imgnode/docker-copy.json", marker)
    node.images = f"{OWN} a:1\nsha256:c0 imgbuild/vllm-cpu:1\n"
    assert cleaned(node) == ([], [])


def test_models_go_when_they_were_long_not_used(node: Node) -> None:
    old, young = node.model("Org/Old", days=31), node.model("Org/Young", days=29)
    wanted = node.model("Org/Wanted", days=31)
    by_hand = node.model("Org/Mine", days=400, source=BY_HAND)
    said, _ = cleaned(node, dry_run=True)
    assert said == ["would remove model Org/Old main (last used 31 days ago)"]
    assert old.is_dir()
    assert cleaned(node)[0] == ["removed model Org/Old main (last used 31 days ago)"]
    assert not old.parent.exists()
    assert young.is_dir()
    assert wanted.is_dir()
    assert by_hand.is_dir()


def test_the_proven_model_stays(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    proven = node.model("Org/Proven", days=400)
    monkeypatch.setattr(models, "load_proven", lambda _: {"model": "Org/Proven"})
    assert cleaned(node) == ([], [])
    assert proven.is_dir()


def test_where_space_is_short_unused_models_and_old_journal_go(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    young, wanted = node.model("Org/Young", days=1), node.model("Org/Wanted", days=1)
    space(monkeypatch, free=9)
    said, faults = cleaned(node)
    assert faults == []
    assert not young.exists()
    assert wanted.is_dir()
    assert node.acted("journalctl") == ["journalctl --rotate --vacuum-size=64M"]
    assert "removed all of the journal but 64M" in said


def test_a_model_that_is_served_is_young_again(node: Node) -> None:
    folder = node.model("Org/Old", days=31)
    models.mark_used(Weights("Org/Old", "main", folder, FETCHED))
    assert cleaned(node) == ([], [])
    assert folder.is_dir()


def test_layers_of_no_version_go_and_those_of_this_one_stay(node: Node) -> None:
    store = Store(node.root)
    for name in ("aa" * 32, "bb" * 32):
        (store.folder / f"{name}.erofs").write_text("layer")
    versions.write_list("x_1", [f"{'aa' * 32}.erofs"], store)
    assert cleaned(node)[0] == [f"removed layer {'bb' * 32}.erofs"]
    assert store.names() == [f"{'aa' * 32}.erofs"]


def test_large_logs_are_emptied_and_kept_once(node: Node) -> None:
    log, small = node.root / "var/log/cloud-init.log", node.root / "var/log/wtmp"
    log.write_bytes(b"x" * (9 << 20))
    small.write_bytes(b"y")
    with log.open("ab") as writer:
        said, _ = cleaned(node)
        writer.write(b"next\n")
    assert said == [
        "removed the content of /var/log/cloud-init.log (kept once as cloud-init.log.1)"
    ]
    assert log.read_bytes() == b"next\n"
    assert log.with_name("cloud-init.log.1").stat().st_size == 9 << 20
    assert small.read_bytes() == b"y"


def test_what_fails_is_told_and_keeps_nothing_else_from_its_turn(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = node.model("Org/Old", days=31)
    node.docker_rc = 1
    monkeypatch.setattr(versions, "installed_stems", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["maintenance", "clean"])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "docker: docker container: no answer" in told
    assert "layers: this disk's partitions cannot be listed" in told
    assert not old.exists()


def test_a_node_without_docker_has_none_to_clean(node: Node) -> None:
    (node.root / "usr/bin/docker").unlink()
    assert cleaned(node) == ([], [])
    assert node.acted("docker") == []


def test_the_images_facts_must_say_how(node: Node) -> None:
    path = node.root / "usr/lib/imgnode/image.json"
    facts = json.loads(path.read_text())
    del facts["maintenance"]
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="maintenance"):
        clean(print, node.root)

"""What the tests of power cuts do with a node: update it in phases, and boot what a cut left."""

from __future__ import annotations

import hashlib
import json
import random
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from builder.core.files import copy_sparse
from builder.core.process import Runner
from builder.vm.session import VmNode
from tests.powercut.recording import Recording
from tests.vm.conftest import BOOT_S, wait_settled
from tests.vm.updates import reboots_into, say, status
from tests.vm.versions import SERVER

_FETCH = """\
import sys
from pathlib import Path
from imgnode.layers import versions
from imgnode.layers.fetch import Server, fetch
from imgnode.layers.store import Store, locked
from imgnode.payload import LayerFile
root, store = Path("/"), Store(Path("/"))
files = [LayerFile(*words) for words in {files!r}]
with locked(root):
    versions.write_list(versions.running_stem(root), [files[0].name], store)
    said = [fetch(one, store, Server({url!r}), one.name) for one in files]
sys.exit(any(said))
"""


@dataclass(frozen=True)
class Layer:
    """A stand-in for a layer file on the release server: what it is called, and its digest."""

    root_hash: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.root_hash}.erofs"


def make_layers(repository: Path, sizes: tuple[int, ...]) -> tuple[Layer, ...]:
    """Put files of these sizes into the repository's layers."""
    folder = repository / "layers"
    folder.mkdir(exist_ok=True)
    made = []
    for number, size in enumerate(sizes):
        data = random.Random(number).randbytes(size)  # noqa: S311 - any bytes
        digest = hashlib.sha256(data).hexdigest()
        layer = Layer(hashlib.sha256(digest.encode()).hexdigest(), size, digest)
        (folder / layer.name).write_bytes(data)
        made.append(layer)
    return tuple(made)


def record_layers(node: VmNode, recording: Recording, layers: tuple[Layer, ...]) -> None:
    """Fetch layers, of which the version needs the first; then remove the others."""
    words = [(one.root_hash, one.bytes, one.bytes, one.sha256) for one in layers]
    script = _FETCH.format(files=words, url=f"http://{SERVER}")
    recording.mark("layers")
    say(node, f"sudo python3 -c {shlex.quote(script)}")
    recording.mark("gc")
    removed = say(node, "sudo imgnode layers gc")
    assert all(one.name in removed for one in layers[1:])
    say(node, "sync")


def record_update(node: VmNode, recording: Recording, version: str, suffix: str = "") -> None:
    """Bring the channel's version onto a node, phase by phase, until it is good."""
    recording.mark(f"stage{suffix}")
    say(node, "sudo imgnode update stage")
    recording.mark(f"write{suffix}")
    say(node, "sudo imgnode update apply")
    recording.mark(f"boot{suffix}")
    since = node.machine.serial.position()
    node.ssh.run("sudo systemctl reboot")
    node.machine.wait_for("login:", BOOT_S, since=since)
    recording.mark(f"bless{suffix}")
    wait_settled(node)
    told = status(node)
    assert told["running"] == version
    assert all(one["tries"] is None for one in told["slots"] if one["label"].endswith(version))
    say(node, "sync")


def boot_and_update(runner: Runner, node: VmNode, disk: Path, runs: str, newest: str) -> None:
    """Boot a copy of a disk in the place of the node's own; it must serve and take an update."""
    node.machine.power_cut()
    copy = node.disk.with_name("cut.raw")
    copy_sparse(runner, disk, copy)
    node.machine.config = replace(node.machine.config, disk=copy, write_log=None)
    node.ssh.known_hosts.unlink(missing_ok=True)  # a cut first boot may make host keys anew
    try:
        since = node.machine.start()
        node.machine.wait_for("login:", BOOT_S, since=since)
        wait_settled(node)
        say(node, "imgnode status")
        assert say(node, "systemctl --failed --no-legend --plain") == ""
        told = status(node)
        assert told["running"] == runs, json.dumps(told)
        if runs != newest:
            reboots_into(node, "imgnode update apply --reboot", newest)
    finally:
        node.machine.power_cut()
        copy.unlink()

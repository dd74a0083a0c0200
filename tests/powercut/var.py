"""What /var holds after a power cut: e2fsck(8) on it, then the files that a node believes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.core.process import CommandError, Runner
from builder.vm.gpt import Partition
from tests.powercut.sparse import extract

_COMMAND_S = 300
_CORRECTED = 1
_STATE = "lib/imgnode"


def check_var(
    runner: Runner, disk: Path, part: Partition, layers: Mapping[str, str], work: Path
) -> list[str]:
    """Return what is broken on /var, looked at in a copy.

    `layers` are the digests that layer files must have, by name. `work` is a folder on the file
    system of `disk`.
    """
    image = work / "var.part"
    extract(disk, part, image)
    try:
        runner.run(["e2fsck", "-fy", image], ok=(0, _CORRECTED), timeout_s=_COMMAND_S)
        return list(_files(runner, image, layers, work / "var"))
    except CommandError as error:
        return [f"/var: {error}"]


def _files(runner: Runner, image: Path, layers: Mapping[str, str], copy: Path) -> Iterator[str]:
    """Copy the node's state out of the file system and look at each file of it."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    runner.run(["debugfs", "-R", f"rdump {_STATE} {copy}", image], timeout_s=_COMMAND_S)
    for path in sorted(copy.rglob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            told = json.loads(path.read_text())
        except ValueError as error:
            yield f"/var: {path.relative_to(copy)}: {error}"
            continue
        if path.name == "ready.json":
            yield from _staged(path.parent, told["sha256"])
    for path in sorted(copy.glob("imgnode/layers/*.erofs")):
        if _digest(path) != layers.get(path.name):
            yield f"/var: {path.name}: has its name and not its content"


def _staged(folder: Path, sums: Mapping[str, str]) -> Iterator[str]:
    for name, digest in sums.items():
        path = folder / name
        if not path.is_file() or _digest(path) != digest:
            yield f"/var: {name}: is called staged and is not what was signed"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

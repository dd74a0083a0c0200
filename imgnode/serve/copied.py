"""A copy of the container image that Docker keeps itself, where its store takes no seeded layers.

The layers go through dm-verity once more as they are copied; the copy then lies on /var, which
nothing checks. It is made once per boot, as the store is (imgnode/layers/dockerstore.py), and
known by its own ID alone: a name can be given to another image.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from imgnode import process
from imgnode.fault import DOCKER, Fault
from imgnode.files import write_atomic
from imgnode.layers.dockerstore import DATA
from imgnode.layers.mounts import mount_points, place
from imgnode.layers.report import Report, State
from imgnode.payload import ContainerImage
from imgnode.serve import docker
from imgnode.serve.facts import read_json
from imgnode.serve.instructions import instructions

_MARKER = Path("run/imgnode/docker-copy.json")
_MERGED = Path("run/imgnode/merged")
_REPOSITORY = "imgnode/copy"
_TAG = 12
_GRAPH_DRIVERS = ("overlay2", "vfs", "btrfs", "zfs", "fuse-overlayfs")
_SPARE = 1 << 30  # left free on /var
_GIB = 1 << 30
_MOUNT_S = 60
_LOAD_S = 7200  # 25 GB at 4 MB/s


def copy_id(image: ContainerImage, root: Path = Path("/")) -> str | None:
    """Return the ID of the copy that was made of an image in this boot, None where none was."""
    kept = read_json(root / _MARKER) or {}
    return str(kept["id"]) if kept.get("digest") == image.digest else None


def check(image: ContainerImage, report: Report, root: Path = Path("/")) -> str:
    """Return why a copy is made, in a sentence. Raises Fault where none can be made.

    `report` is what was found when the layers were opened last.
    """
    mounted = {one.file.root_hash for one in report.outcomes if one.state is State.MOUNTED}
    told = "".join(f"; {one}" for one in report.problems)
    if any(layer.root_hash not in mounted for layer in image.layers):
        raise Fault(DOCKER, f"Docker does not know {image.reference}{told}")
    version = docker.version()
    if version is None:
        raise Fault(DOCKER, f"Docker does not answer{told}", "journalctl -b -u docker")
    size = _size(image, docker.storage_driver())
    free = shutil.disk_usage(root / DATA).free
    if free < size + _SPARE:
        needed = f"needs {(size + _SPARE) / _GIB:.1f} GiB, /var has {free / _GIB:.1f} GiB free"
        fact = f"Docker {version} does not take the seeded layers, and a copy {needed}"
        raise Fault(DOCKER, fact, "imgnode model list; du -xsh /var/lib/imgnode/*")
    return (
        f"Docker {version} does not take the seeded layers: "
        f"it loads a copy, {size / _GIB:.1f} GiB, once per boot"
    )


def make(image: ContainerImage, root: Path = Path("/")) -> str:
    """Have Docker copy the layers, which must be mounted; return the copy's ID. Raises Fault.

    Takes minutes. A copy has no name until it is whole: one of which a byte could not be read
    is removed at once, one that was cut off before the next is made.
    """
    try:
        words = [f"--change={one}" for one in instructions(image.config)]
    except ValueError as error:
        raise Fault(DOCKER, f"the image cannot be copied: {error}") from error
    docker.remove_nameless()
    with _merged(image, root) as tree:
        read, loaded = process.pipe(
            ["tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*",
             f"--directory={tree}", "."],
            ["docker", "import", *words, "-"],
            timeout_s=_LOAD_S,
        )  # fmt: skip
    found = loaded.stdout.strip()
    if read.rc or loaded.rc:
        docker.remove_nameless()
        said = f"{loaded.stderr} {read.stderr}"
        raise Fault(DOCKER, f"Docker cannot copy the image: {_shortened(said)}", "dmesg; df /var")
    docker.tag_image(found, f"{_REPOSITORY}:{image.digest[:_TAG]}")
    write_atomic(root / _MARKER, json.dumps({"digest": image.digest, "id": found}) + "\n")
    return found


@contextlib.contextmanager
def _merged(image: ContainerImage, root: Path) -> Iterator[Path]:
    """Show all layers as one read-only tree. Raises Fault.

    The service may not have mounts of its own (vllm.service): what a killed one left goes first.
    """
    tree, links = root / _MERGED / "tree", root / _MERGED / "l"
    if tree in mount_points(root):
        _mounting("umount", str(tree))
    shutil.rmtree(root / _MERGED, ignore_errors=True)
    (links / "none").mkdir(parents=True)  # overlay takes two folders at least
    tree.mkdir()
    for number, layer in enumerate(image.layers):
        (links / str(number)).symlink_to(place(layer.root_hash, root))
    # Short names: all options of one mount must fit into a page, and an image may have 127 layers.
    order = [*(str(number) for number in reversed(range(len(image.layers)))), "none"]
    lower = ":".join(str(links / name) for name in order)
    _mounting("mount", "-t", "overlay", "-o", f"ro,nodev,lowerdir={lower}", "imgnode", str(tree))
    try:
        yield tree
    finally:
        _mounting("umount", str(tree))
        shutil.rmtree(root / _MERGED)


def _mounting(*argv: str) -> None:
    done = process.run(argv, timeout_s=_MOUNT_S)
    if done.rc:
        raise Fault(DOCKER, f"the layers cannot be stacked: {_shortened(done.stderr)}", "dmesg")


def _size(image: ContainerImage, driver: str) -> int:
    """Return the most bytes that a copy takes: what a higher layer replaces counts, too.

    containerd's image store keeps the layer as it came beside the unpacked one.
    """
    unpacked = sum(layer.bytes for layer in image.layers)
    return unpacked if driver in _GRAPH_DRIVERS else 2 * unpacked


def _shortened(text: str) -> str:
    return " ".join(text.split())[-300:]

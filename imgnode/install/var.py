"""The new disk's `var`, mounted while its layers are fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imgnode import process
from imgnode.download import Patience
from imgnode.install.stream import Tell
from imgnode.install.table import Partition
from imgnode.install.why import TABLE
from imgnode.layers import versions
from imgnode.layers.fetch import Server, fetch
from imgnode.layers.report import label
from imgnode.layers.store import Store, intact
from imgnode.payload import LayerFile
from imgnode.update.offer import Offer
from imgnode.update.refused import FETCH, Refused

_COMMAND_S = 300
_CHECK_S = 3600  # of terabytes
_PEER_S = 10.0
_NOT_MENDED = 4  # e2fsck(8)


@contextmanager
def mounted(disk: Path, var: Partition, point: Path) -> Iterator[None]:
    """Check `var` and mount it at a folder, by its place on the disk.

    The kernel may not have read the table again. What a power cut has left is mended first, as at
    a node's boot (image/initrd, mount-var). Raises Refused.
    """
    point.mkdir(parents=True, exist_ok=True)
    place = ["--offset", str(var.offset), "--sizelimit", str(var.bytes)]
    loop = _must(["losetup", "--find", "--show", *place, str(disk)], disk).strip()
    try:
        if process.run(["e2fsck", "-p", loop], timeout_s=_CHECK_S).rc >= _NOT_MENDED:
            process.run(["e2fsck", "-fy", loop], timeout_s=_CHECK_S)
        _must(["mount", loop, str(point)], disk)
        try:
            yield
        finally:
            process.run(["umount", str(point)], timeout_s=_COMMAND_S)
    finally:
        process.run(["losetup", "--detach", loop], timeout_s=_COMMAND_S)


def _must(argv: list[str], disk: Path) -> str:
    done = process.run(argv, timeout_s=_COMMAND_S)
    if done.rc:
        hint = "order it with wipe, which gives up what var holds"
        raise Refused(TABLE, f"{disk}: var cannot be mounted: {done.stderr.strip()}", hint)
    return done.stdout


def bring_layers(offer: Offer, root: Path, releases: str, peers: Sequence[str], tell: Tell) -> None:
    """Fetch the layer files that `root`/var lacks; what is there is read once. Raises Refused.

    Each is asked for at `peers` first; what one of them has sent is not fetched again.
    """
    store = Store(root)
    servers = [*(Server(one, Patience(_PEER_S)) for one in peers), Server(releases)]
    store.folder.mkdir(parents=True, exist_ok=True)
    if offer.layers:
        versions.write_list(offer.recipe.stem, [one.name for one in offer.layers], store)
    for file in offer.layers:
        if not intact(store.path(file), file):
            store.path(file).unlink(missing_ok=True)
            _bring(file, store, servers)
        tell(file.bytes)


def _bring(file: LayerFile, store: Store, servers: Sequence[Server]) -> None:
    for server in servers:
        problem = fetch(file, store, server, label(file, "of the installation"))
        if problem is None:
            return
    raise Refused(FETCH, str(problem))

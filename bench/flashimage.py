"""Images for the bench of flashing: a real one, or one made for the purpose; each released, too."""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from builder.core.blockmap import BlockMap, map_text, read_map
from builder.core.blockscan import scan
from builder.core.process import Runner
from builder.model.artifacts import DiskImage, Manifest
from tests.build.small_image import make_image

_HOLE = 192 << 20
_STRETCHES = 12
_PIECE = 1 << 20
_RELEASE_S = 1800.0


@dataclass(frozen=True)
class Image:
    """An image in a folder, the same released, and its allocated bytes alone in one file.

    `least_bytes`: of a disk for it.
    """

    title: str
    folder: Path
    released: Path
    packed: Path
    map: BlockMap
    least_bytes: int


def real_image(runner: Runner, folder: Path, to: Path) -> Image:
    """Return an image that imgbuild build made, released below `to`."""
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    found = read_map(folder / "disk.raw.bmap")
    title = f"{manifest.image_id} ({_sizes(found)})"
    to.mkdir()
    return _image(runner, title, folder.absolute(), found, to, manifest.disk)


def made_image(runner: Runner, size: int, to: Path) -> Image:
    """Make an image of so many allocated bytes in stretches, half of which cannot be packed."""
    to.mkdir()
    folder = make_image(to / "image", "1")
    disk = folder / "disk.raw"
    noise = random.Random(1)  # noqa: S311 - test data
    with disk.open("r+b") as stream:
        stream.seek(_PIECE)
        for number in range(size // _PIECE):
            half = noise.randbytes(_PIECE // 2)
            stream.write(half + half)
            if number % (size // _PIECE // _STRETCHES + 1) == 0:
                stream.seek(_HOLE, 1)
        stream.truncate(stream.tell() + _HOLE)
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    bytes_ = disk.stat().st_size
    changed = manifest.model_copy(
        update={"disk": manifest.disk.model_copy(update={"bytes": bytes_})}
    )
    (folder / "manifest.json").write_text(changed.model_dump_json())
    found = scan(disk)
    (folder / "disk.raw.bmap").write_text(map_text(found))
    return _image(runner, f"made for this ({_sizes(found)})", folder, found, to, changed.disk)


def _sizes(found: BlockMap) -> str:
    return f"{found.mapped_bytes / 1e6:,.0f} MB of {found.image_bytes / 1e6:,.0f} MB allocated"


def _image(
    runner: Runner, title: str, folder: Path, found: BlockMap, to: Path, disk: DiskImage
) -> Image:
    imgbuild = Path(sys.executable).with_name("imgbuild")
    with tempfile.TemporaryDirectory(prefix="bench-keys-") as keys:  # none below the project
        runner.run([imgbuild, "keys", "new", "--to", keys])
        (key,) = Path(keys).glob("*.secret.asc")
        words = ("--to", to / "repository", "--key", key, "--with-disk")
        runner.run([imgbuild, "release", folder, *words], timeout_s=_RELEASE_S)
    (listed,) = (to / "repository").glob("*/*/SHA256SUMS")
    packed = to / "packed"
    with (folder / "disk.raw").open("rb") as whole, packed.open("wb") as stream:
        for extent in found.mapped():
            whole.seek(extent.offset)
            done = 0
            while done < extent.bytes:
                done += stream.write(whole.read(min(_PIECE, extent.bytes - done)))
    least = max(found.image_bytes, disk.least_bytes or 0)
    return Image(title, folder, listed.parent, packed, found, least)

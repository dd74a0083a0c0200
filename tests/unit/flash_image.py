"""A small disk image with a place for a seed, and a plain file that stands for a disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from builder.core.blockmap import BLOCK, map_text
from builder.core.blockscan import scan
from builder.core.process import Runner
from builder.flash.source import Source, find_source
from builder.model.artifacts import DiskImage, Partition
from tests.unit.images import manifest

MIB = 1 << 20
SIZE, DISK = 32 * MIB, 48 * MIB
CIDATA = 24 * MIB
CIDATA_BYTES = 4 * MIB
USED = ((0, BLOCK), (MIB, 9 * MIB), (16 * MIB, BLOCK), (CIDATA, BLOCK), (SIZE - BLOCK, BLOCK))


def make_image(folder: Path, *, with_map: bool = True) -> Path:
    """Write an image folder as `imgbuild build` does: data here and there, holes between."""
    folder.mkdir(parents=True)
    noise = random.Random("image")  # noqa: S311 - test data
    with (folder / "disk.raw").open("wb") as stream:
        stream.truncate(SIZE)
        for offset, count in USED:
            stream.seek(offset)
            stream.write(noise.randbytes(count))
    seed = Partition(
        label="cidata", type="linux-generic", uuid="u", offset=CIDATA, bytes=CIDATA_BYTES
    )
    disk = DiskImage(name="disk.raw", bytes=SIZE, partitions=(seed,))
    made = manifest("1.0").model_copy(update={"disk": disk})
    (folder / "manifest.json").write_text(made.model_dump_json())
    if with_map:
        (folder / "disk.raw.bmap").write_text(map_text(scan(folder / "disk.raw")))
    return folder


def source_of(folder: Path) -> Source:
    return find_source(Runner(), folder, None)


def make_disk(path: Path, size: int = DISK) -> Path:
    """Write a disk that is full of what somebody else had on it."""
    path.write_bytes(random.Random("old").randbytes(MIB) * (size // MIB))  # noqa: S311
    return path


@dataclass
class Phases:
    """Keeps what a run says of its progress: bytes announced and told, by phase."""

    announced: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)

    def begin(self, phase: str, total: int) -> Callable[[int], None]:
        self.announced[phase], self.told[phase] = total, 0

        def tell(count: int) -> None:
            self.told[phase] += count

        return tell

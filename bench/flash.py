"""`make bench-flash`: an image onto a disk by imgbuild flash, bmaptool and dd, by turns.

As root: the disk is a loop device over a file. Writes docs/benchmarks-flash.md.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from bench.flashimage import Image, made_image, real_image
from bench.flashpage import DD, OURS, Figure, page
from bench.place import Place, opened, say
from bench.stopwatch import Measured, measure
from builder.compare.manifest import newest_image
from builder.core.blockscan import wrong_range
from builder.core.errors import UserError
from builder.core.files import remove_tree, write_atomic

_GOAL = 0.9
_PAGE = "docs/benchmarks-flash.md"
_VERSIONS = ("bmap-tools", "coreutils", "zstd", "util-linux")
_DD = "dd if={packed} of={device} bs=4M oflag=direct conv=fsync status=none"
_CMP = "dd if={device} bs=4M iflag=direct,count_bytes count={bytes} status=none | cmp - {packed}"
_OURS = "{imgbuild} flash {device} --image {folder} --yes --serial none --erase 2>&1"
_BMAPTOOL = "bmaptool -q copy {disk} {device}"
_WRITTEN = re.compile(r"^written: .* ([\d.]+) ([kMG]B)/s$", re.MULTILINE)
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
PACKED, IMAGE, RELEASE = "allocated bytes", "image", "release"


@dataclass(frozen=True)
class Way:
    """A command line, and whether the disk holds the image afterwards, holes and all."""

    name: str
    source: str
    words: str
    whole: bool = True


WAYS = (
    Way(DD, PACKED, _DD, whole=False),
    Way("dd, then cmp", PACKED, f"{_DD} && {_CMP}", whole=False),
    Way("imgbuild flash --no-verify", IMAGE, f"{_OURS} --no-verify"),
    Way(OURS, IMAGE, _OURS),
    Way("bmaptool copy", IMAGE, _BMAPTOOL),
    Way("imgbuild flash --no-verify", RELEASE, f"{_OURS} --no-verify"),
    Way(OURS, RELEASE, _OURS),
    Way("bmaptool copy", RELEASE, _BMAPTOOL),
)


@dataclass
class Race:
    """All ways of one image, each with what its rounds took: seconds, of processors, of writing."""

    image: Image
    device: str
    times: list[list[float]] = field(default_factory=lambda: [[] for _ in WAYS])
    used: list[list[float]] = field(default_factory=lambda: [[] for _ in WAYS])
    writes: list[list[float]] = field(default_factory=lambda: [[] for _ in WAYS])

    def round(self, place: Place, turn: int, *, counted: bool) -> None:
        """Run each way once, beginning with another one each time."""
        order = list(range(len(WAYS)))
        at = turn % len(order)
        for number in order[at:] + order[:at]:
            done = measure(place.runner, ["bash", "-ec", self._words(WAYS[number])])
            if counted:
                self.times[number].append(done.seconds)
                self.used[number].append(done.cpu_seconds)
                self.writes[number].append(self._writing(done))
            elif WAYS[number].whole and wrong_range(Path(self.device), self.image.map):
                raise UserError(f"{WAYS[number].name}: wrote something else")
            way = f"{WAYS[number].name}, {WAYS[number].source}"
            say(f"{self.image.title}: {way}: {done.seconds:.2f} s")

    def _writing(self, done: Measured) -> float:
        """Return how long the disk was written to: as imgbuild says, else the whole time."""
        told = _WRITTEN.search(done.stdout)
        if told is None:
            return done.seconds
        rate = float(told[1]) * _UNITS[told[2]]
        return self.image.map.mapped_bytes / rate

    def _words(self, way: Way) -> str:
        one = self.image
        folder = one.folder if way.source == IMAGE else one.released
        return "set -o pipefail; " + way.words.format(
            imgbuild=Path(sys.executable).with_name("imgbuild"),
            device=self.device,
            packed=one.packed,
            bytes=one.map.mapped_bytes,
            folder=folder,
            disk=folder / ("disk.raw" if way.source == IMAGE else "disk.raw.zst"),
        )

    def figures(self) -> Iterator[Figure]:
        """Yield what each way took."""
        dd = self.times[0]
        for number, way in enumerate(WAYS):
            times, writes = self.times[number], self.writes[number]
            yield Figure(
                name=way.name,
                source=way.source,
                seconds=times,
                of_dd=_share(dd, times),
                write_rate=self.image.map.mapped_bytes / statistics.median(writes),
                write_of_dd=_share(dd, writes),
                cpu_seconds=statistics.median(self.used[number]),
            )


def _share(dd: Sequence[float], own: Sequence[float]) -> float:
    """Return the median over the rounds of how fast it was, dd being 1."""
    return statistics.median(one / other for one, other in zip(dd, own, strict=True))


def main() -> int:
    """Run the bench; return 1 when a flash writes slower than 0.9 of dd."""
    signal.signal(signal.SIGTERM, _interrupt)
    parser = argparse.ArgumentParser(prog="python -m bench.flash", description=__doc__)
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="default: the newest")
    parser.add_argument("--mb", type=int, default=1024, help="of a made image; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="write no page")
    words = parser.parse_args()
    try:
        load = os.getloadavg()[0]
        with opened() as place:
            folder = place.folder / "flash"
            remove_tree(folder)
            folder.mkdir()
            try:
                races = _races(place, words.images, words.mb, words.rounds, folder)
            finally:
                remove_tree(folder)
            found = {one.image.title: list(one.figures()) for one in races}
            text = page(found, load, _versions(place))
            if not words.quick:
                write_atomic(place.project.root / _PAGE, text)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left behind", file=sys.stderr)
        return 2
    say(text)
    return _judge(races)


def _races(
    place: Place, images: Sequence[Path], megabytes: int, rounds: int, folder: Path
) -> list[Race]:
    races = []
    folders = images or [newest_image(place.project.out)]
    for number, path in enumerate([None, *folders] if megabytes else folders):
        to = folder / str(number)
        image = _image(place, path, megabytes, to)
        with _disk(folder / "disk", image.least_bytes + (64 << 20)) as device:
            race = Race(image, device)
            for turn in range(rounds + 1):
                race.round(place, turn, counted=turn > 0)
        races.append(race)
        remove_tree(to)
    return races


def _image(place: Place, path: Path | None, megabytes: int, to: Path) -> Image:
    if path is None:
        return made_image(place.runner, megabytes << 20, to)
    return real_image(place.runner, path, to)


@contextmanager
def _disk(file: Path, size: int) -> Iterator[str]:
    """Give a disk whose blocks all exist: what is written for the first time takes longer."""
    with file.open("wb") as stream:
        for _ in range(size >> 20):
            stream.write(b"\xa5" * (1 << 20))
    words = ["losetup", "--find", "--show", "--direct-io=on", str(file)]
    device = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        file.unlink()


def _judge(races: Sequence[Race]) -> int:
    shares = [
        one.write_of_dd
        for race in races
        for one in race.figures()
        if (one.name, one.source) == (OURS, IMAGE)
    ]
    say(f"imgbuild flash writes at {min(shares):.2f} of dd at least; {_GOAL} is wanted")
    return int(min(shares) < _GOAL)


def _versions(place: Place) -> dict[str, str]:
    show = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *_VERSIONS]
    return dict(line.split() for line in place.runner.run(show).stdout.splitlines())


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

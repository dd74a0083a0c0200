"""The build cases: cold (with memory), nothing changed, one overlay file changed."""

from __future__ import annotations

from bench.figures import Figure, gathered, spent
from bench.imgbuild import Imgbuild, stage_seconds
from bench.mkosi import Mkosi
from bench.place import say
from bench.stopwatch import Measured
from builder.core.blockscan import scan

_REPEATS = 5  # of the quick case, whatever the number of runs


def cold(ours: Imgbuild, theirs: Mkosi, runs: int) -> list[Figure]:
    """Build from downloaded packages and a ready tools tree, alternately."""
    pairs: list[tuple[Measured, Measured]] = []
    for number in range(runs):
        ours.fresh_cache()
        mine = ours.build()
        other = theirs.build("--force")
        say(f"cold build {number + 1}: imgbuild {mine.seconds:.1f} s, mkosi {other.seconds:.1f} s")
        pairs.append((mine, other))
    stages = gathered([stage_seconds(mine) for mine, _ in pairs])
    time = Figure(
        "cold build",
        "s",
        [mine.seconds for mine, _ in pairs],
        [other.seconds for _, other in pairs],
        1.0,
        where={"imgbuild, stages (some run at the same time)": spent(stages)},
    )
    return [time, *_memory(pairs)]


def _memory(pairs: list[tuple[Measured, Measured]]) -> list[Figure]:
    how = {"counted by": pairs[0][0].memory.how}
    return [
        Figure(
            "peak memory of a cold build",
            "MiB",
            [_mib(mine.memory.total) for mine, _ in pairs],
            [_mib(other.memory.total) for _, other in pairs],
            1024,
            absolute=True,
            where=how,
        ),
        Figure(
            "the largest process in it",
            "MiB",
            [_mib(mine.memory.largest) for mine, _ in pairs],
            [_mib(other.memory.largest) for _, other in pairs],
            1024,
            absolute=True,
        ),
    ]


def unchanged(ours: Imgbuild, theirs: Mkosi) -> list[Figure]:
    """Build again what is already there."""
    ensure_images(ours, theirs)
    mine = [ours.build() for _ in range(_REPEATS)]
    other = [theirs.build() for _ in range(_REPEATS)]
    figure = Figure(
        "nothing changed",
        "s",
        [run.seconds for run in mine],
        [run.seconds for run in other],
        1.0,
        absolute=True,
        where={"imgbuild, stages": spent(gathered([stage_seconds(run) for run in mine]))},
    )
    say(f"nothing changed: imgbuild {figure.ours[0]:.2f} s, mkosi {figure.theirs[0]:.2f} s")
    return [figure]


def sizes(ours: Imgbuild, theirs: Mkosi) -> list[Figure]:
    """Compare what the two disk images hold: what a first installation has to write."""
    ensure_images(ours, theirs)
    mine, other = (_mib(scan(side.disk).mapped_bytes) for side in (ours, theirs))
    return [Figure("disk image, bytes with data", "MiB", [mine], [other], 1.0)]


def overlay(ours: Imgbuild, theirs: Mkosi, runs: int) -> list[Figure]:
    """Change one file of an overlay, with everything before it cached."""
    ours.copy_project()
    ours.change("0\n")
    ours.build(changed=True)
    theirs.build("--incremental", "--force")
    pairs: list[tuple[Measured, Measured]] = []
    for number in range(1, runs + 1):
        ours.change(f"{number}\n")
        theirs.change(f"{number}\n")
        mine = ours.build(changed=True)
        other = theirs.build("--incremental", "--force")
        say(f"one file, run {number}: imgbuild {mine.seconds:.1f} s, mkosi {other.seconds:.1f} s")
        pairs.append((mine, other))
    stages = gathered([stage_seconds(mine) for mine, _ in pairs])
    return [
        Figure(
            "one overlay file changed",
            "s",
            [mine.seconds for mine, _ in pairs],
            [other.seconds for _, other in pairs],
            0.5,
            where={"imgbuild, stages": spent(stages)},
        )
    ]


def ensure_images(ours: Imgbuild, theirs: Mkosi) -> None:
    """Build both images from the unchanged project, as far as they are not there."""
    ours.build()
    if not theirs.disk.exists():
        theirs.build("--force")


def _mib(size: int) -> float:
    return size / (1 << 20)

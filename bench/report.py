"""The results as a page: table, machine, method, and where the time goes."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Figure, median
from bench.place import PROFILE, Place

_HEAD = """\
# Benchmarks

imgbuild against mkosi {mkosi}, measured side by side in one run of `make bench` on {day}.
Medians of {runs} run{s} ("nothing changed": of 5), ranges in brackets. Times come from one
machine: read them as proportions.

| figure | imgbuild | mkosi | ratio | goal | met |
| --- | --- | --- | --- | --- | --- |
"""
_ALL = """
![build and boot](plots/build.svg)

## All that is measured

`make bench-all` measures everything, one after the other; each page says on what machine and with which
versions.

| what | beside | where | picture |
| --- | --- | --- | --- |
| build, memory, boot | mkosi | this page | [build](plots/build.svg) |
| what an update moves | a full download, casync | [benchmarks-update.md](benchmarks-update.md) | [update](plots/update.svg) |
| a container image on a node | `docker load` | [benchmarks-container.md](benchmarks-container.md) | [container](plots/container.svg) |
| an image onto a stick or disk | bmaptool, `dd` | [benchmarks-flash.md](benchmarks-flash.md) | [flash](plots/flash.svg) |
| handing out releases to many machines | nginx alone, uvicorn | [provisioning.md](provisioning.md#what-it-was-tried-with) | [provision](plots/provision.svg) |
| installing, from switching on to done | nothing like it at hand | [install.md](install.md#how-it-goes) | |
| each fault, until it is told and mended | nothing like it at hand | [recovery.md](recovery.md#what-is-tried) | |
| plans and questions of many nodes | nothing like it at hand | [benchmarks-fleet.md](benchmarks-fleet.md) | |
"""  # noqa: E501 - a table
_METHOD = """
## What is compared

- The same packages: those of profile `{profile}`, {count} by name, the same archives, and systemd
  from bookworm-backports in both images. The same service settings, too: presets, cloud-init,
  SSH, network and journal configuration of our overlays, but not our changes to units and
  generators. mkosi makes its own default initrd, with our list of kernel modules.
- mkosi's disk: ESP, EROFS root (lz4hc, level 6) with dm-verity, unified kernel image, `cidata`,
  `var` made when the image is built (ours is made on first boot); `/etc` is writable through
  `systemd.volatile=overlay`. Ours has two root slots, boot counting and a state that persists.
- **Cold build**: downloaded packages, package indexes or lock, and the tools tree are there
  already, for both; nothing else is. imgbuild gets a new cache folder into which packages and
  tools tree are linked; mkosi runs with `--force`, its package cache and `CacheOnly=metadata`.
- **Nothing changed**: `imgbuild build` checks all inputs by digest and the output's files; `mkosi
  build` sees that its output exists and looks no further, even when a file has changed.
- **One overlay file changed**: mkosi runs with `--incremental --force`; first runs that fill
  caches are not counted.
- **Boot to login**: QEMU (TCG, 2 processors, 2 GiB, OVMF), a disk of 8 GiB, the same cloud-init
  seed, from the start of QEMU to `login:` on the serial console, the two images alternately.
- **Disk image**: ranges that are not zeros, as in its block map. Ours has an empty second slot,
  mkosi's an empty `var` in place.
- **Memory**: anonymous memory of all processes of a build together, without page cache.
"""


def page(place: Place, figures: Sequence[Figure], runs: int) -> str:
    """Return the page in Markdown."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    versions = installed(place)
    head = _HEAD.format(mkosi=versions["mkosi"], day=day, runs=runs, s="" if runs == 1 else "s")
    return "".join(
        [
            head,
            *(_row(figure) for figure in figures),
            _ALL,
            _METHOD.format(profile=PROFILE, count=len(place.spec.packages)),
            machine(versions),
            _where(figures),
            _again(),
        ]
    )


def missed(figures: Sequence[Figure]) -> str:
    """Return where the time goes in each figure whose goal is missed; empty when none is."""
    lines = []
    for figure in figures:
        if not figure.met:
            lines += [f"goal missed: {figure.name}", *_parts(figure, "  ")]
    return "\n".join(lines)


def installed(place: Place) -> dict[str, str]:
    """Return the versions of the programs that were compared."""
    names = ["mkosi", "systemd", "erofs-utils"]
    told = place.runner.run(
        ["dpkg-query", f"--admindir={place.tools}/var/lib/dpkg", "--show",
         "--showformat=${Package} ${Version}\n", *names]
    )  # fmt: skip
    versions = dict(line.split() for line in told.stdout.splitlines())
    qemu = place.runner.run(["qemu-system-x86_64", "--version"]).stdout.split()
    return {**versions, "qemu": qemu[3]}


def _row(figure: Figure) -> str:
    of = figure.unit if figure.absolute else "of mkosi"
    goal = f"≤ {figure.goal:g} {of}"
    ratio = "-" if figure.ratio is None else f"{figure.ratio:.2f}"
    cells = [
        figure.name,
        _value(figure.ours, figure.unit),
        _value(figure.theirs, figure.unit),
        ratio,
        goal,
        "yes" if figure.met else "**no**",
    ]
    return f"| {' | '.join(cells)} |\n"


def _value(values: Sequence[float], unit: str) -> str:
    if not values:
        return "-"
    digits = 0 if unit == "MiB" else 2 if median(values) < 1 else 1
    text = f"{median(values):.{digits}f} {unit}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text


def machine(versions: Mapping[str, str]) -> str:
    """Return the section about the machine and the programs that were compared."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"\n## Machine and versions\n\n{model}, {os.cpu_count()} processors, {memory:.0f} GiB of "
        f"memory, Linux {platform.release()}, Python {platform.python_version()}; {programs}.\n"
    )


def _where(figures: Sequence[Figure]) -> str:
    lines = ["\n## Where the time goes\n"]
    for figure in figures:
        if figure.where:
            lines += [f"\n{figure.name}:\n", *(f"{part}\n" for part in _parts(figure, ""))]
    return "\n".join(line.rstrip("\n") for line in lines) + "\n"


def _parts(figure: Figure, indent: str) -> list[str]:
    return [f"{indent}- {name}: {text}" for name, text in figure.where.items()]


def _again() -> str:
    return """
## Run it again

    make bench                                   # everything, as root, on an idle machine
    .venv/bin/python -m bench --only boot --runs 5
    .venv/bin/python -m bench --quick            # one run of everything

Only a run of everything, without `--quick`, rewrites this page; others print the table. The first
run makes mkosi's tools tree and downloads packages into `.cache/bench/`, which later runs reuse.
"""

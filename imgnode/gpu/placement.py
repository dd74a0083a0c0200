"""Which GPUs a server takes, and which processors and memory lie next to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """GPUs by index, in the order in which the server sees them.

    `cpus` and `nodes` are lists as cpuset(7) writes them; None leaves the choice to the kernel.
    """

    gpus: tuple[int, ...]
    cpus: str | None = None
    nodes: str | None = None

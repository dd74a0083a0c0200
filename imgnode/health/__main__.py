"""`python -m imgnode.health`: the loop, in a process that has loaded nothing else."""

from __future__ import annotations

from imgnode.health.watch import run
from imgnode.recover.engine import Engine

if __name__ == "__main__":
    run(Engine())

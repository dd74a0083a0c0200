"""The child that speaks with NVML: `python -m imgnode.gpu inventory`, `… set` or `… watch`.

It may hang in the kernel, so nobody waits for it without a limit. One line of JSON is written as
soon as it is known: what came before a hang is not lost. Children take turns by a lock that a
hung one keeps, so they do not pile up in the driver: those behind it wait where they can be killed.
The one that watches goes without: whoever started it (imgnode/exporter/gpu.py) starts no second one
beside it, and what hangs for it must not keep others from looking.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from imgnode.gpu import nvml
from imgnode.gpu.words import State

_LOCK = Path("/run/imgnode/gpu.lock")


def main(argv: list[str]) -> None:
    """Write the answers to standard output."""
    if argv[0] == "watch":
        _watch(float(argv[1]))
    _take_turn()
    answers = nvml.inventory() if argv == ["inventory"] else _set()
    for answer in answers:
        print(json.dumps(answer), flush=True)


def _take_turn() -> None:
    """Wait for the lock, held until this process is gone; others than root go without."""
    try:
        handle = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    fcntl.flock(handle, fcntl.LOCK_EX)


def _watch(every_s: float) -> NoReturn:
    """Write a sample each so many seconds, until nobody reads any more.

    The driver stays open, which costs less than taking it up anew; after a fault it is let go.
    """
    is_open = False
    while True:
        fault = None if is_open else nvml.open_driver()
        answer = fault or nvml.samples()
        is_open = answer["state"] == State.OK
        if fault is None and not is_open:
            nvml.close_driver()
        print(json.dumps(answer), flush=True)
        time.sleep(every_s)


def _set() -> Iterator[dict[str, Any]]:
    """Do the settings on standard input (imgnode/gpu/plan.py), and answer each."""
    for setting in json.load(sys.stdin):
        yield {"error": nvml.apply(setting["index"], setting["key"], setting["value"])}


if __name__ == "__main__":
    main(sys.argv[1:])

"""Finds in the output of `docker run` the one line that says why it ended: vLLM's or Docker's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from imgnode.fault import CONFIG, CONTAINER, DOCKER, HARDWARE, MEMORY, Fault
from imgnode.process import run

_READ_S = 30
_LINES = 400
_LONGEST = 400
_VALUE = re.compile(r"(?:^|\s)Value error, (?P<text>.+?)(?: \[type=\w+.*)?$")
_USAGE = re.compile(r"^\S+(?: \S+)?: error: (?P<text>.+)$")
_RAISED = re.compile(r"(?:^|[\s\]])(?P<text>(?:\w+\.)*\w*(?:Error|Exception): .+)$")
_DOCKER = re.compile(r"^docker: (?:Error response from daemon: )?(?P<text>.+)$")
_PREFIX = re.compile(r"^\(\w+(?: pid=\d+)?\) ")
_WARNING = re.compile(r"^(?:INFO|DEBUG|WARNING) ")
_ECHO = ("Engine core initialization failed", "EngineDeadError", "validation error for")
_OURS = "FALLBACK:"  # imgnode/serve/report.py repeats an earlier run's error
_TOO_LARGE = re.compile(
    r"out ?of ?memory|not enough memory|No available memory|KV cache", re.IGNORECASE
)
# CUDA's own words (cudaGetErrorString): no other config would find a GPU.
_NO_GPU = re.compile(
    r"No CUDA GPUs are available|no CUDA-capable device|CUDA driver initialization failed"
    r"|system not yet initialized|uncorrectable ECC error|GPU is lost|driver/library version"
    r" mismatch",
    re.IGNORECASE,
)


def explain(lines: Iterable[str]) -> Fault | None:
    """Return the fault that the output tells of, None where it tells of none.

    The last telling line counts; one about a setting before any other.
    """
    settings, raised = None, None
    for line in lines:
        plain = _PREFIX.sub("", line)
        if _WARNING.match(plain) or plain.startswith(_OURS):
            continue
        if match := _DOCKER.match(plain):
            return Fault(DOCKER, f"docker run: {_short(match['text'])}")
        if match := _VALUE.search(plain) or _USAGE.match(plain):
            settings = match["text"]
        elif (match := _RAISED.search(plain)) and not any(one in plain for one in _ECHO):
            raised = match["text"]
    text = settings or raised
    if text is None:
        return None
    if _TOO_LARGE.search(text):
        return Fault(MEMORY, f"vLLM: {_short(text)}")
    if raised and _NO_GPU.search(text):
        return Fault(HARDWARE, f"vLLM: {_short(text)}")
    return Fault(CONFIG if settings else CONTAINER, f"vLLM: {_short(text)}")


def read_output(pid: int) -> list[str]:
    """Return the last lines of the `docker run` with this PID from the journal.

    Not those of the service's invocation: for the second and third start on a busy node the journal
    gave none. None where it cannot be read.
    """
    run(["journalctl", "--sync"], timeout_s=_READ_S)  # its last words are still on their way
    options = ["--boot", "--output=cat", "--no-pager", f"--lines={_LINES}"]
    done = run(["journalctl", *options, f"_PID={pid}"], timeout_s=_READ_S)
    return done.stdout.splitlines()


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

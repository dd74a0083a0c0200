"""Lets running requests end before a reboot: no new connections, then a wait with a limit."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable

from imgnode import process

_TABLE = "imgnode_drain"
_COMMAND_S = 30
_POLL_S = 1
_ASK_S = 10
_RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
# Before Docker's own rules at -100, for which the port exists no more after them.
_RULES = """\
table inet {table} {{
  chain in {{
    type filter hook prerouting priority -150; policy accept;
    iif != "lo" tcp dport {port} ct state new reject with tcp reset
  }}
}}
"""


def drain(port: int, limit_s: float, say: Callable[[str], None]) -> bool:
    """Refuse new connections to the server and wait until no request runs, or the limit is over.

    Returns whether nothing runs any more. Call `resume` to take connections again.
    """
    refuse(port)
    end = time.monotonic() + limit_s
    told = -1
    while (running := requests(port)) and time.monotonic() < end:
        if running != told:
            say(f"draining: {running} requests run")
            told = running
        time.sleep(_POLL_S)
    return not running


def refuse(port: int) -> None:
    """Refuse new connections from outside; those that are open stay."""
    resume()
    process.run(
        ["nft", "-f", "-"], timeout_s=_COMMAND_S, stdin=_RULES.format(table=_TABLE, port=port)
    )


def resume() -> None:
    """Take connections again."""
    process.run(["nft", "delete", "table", "inet", _TABLE], timeout_s=_COMMAND_S)


def requests(port: int) -> int:
    """Return how many requests run or wait in the server; none when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_ASK_S) as answer:
            text = answer.read().decode(errors="replace")
    except OSError:
        return 0
    return int(sum(float(value) for value in _RUNNING.findall(text)))

"""Maintenance mode: no new requests, no recovery, no alerts, until it ends or is ended.

`/run/imgnode/maintenance` says so to everyone; a copy on /var brings it back after a reboot where
that was asked for (imgnode-maintenance.service).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from imgnode import metrics, process
from imgnode.files import write_atomic
from imgnode.serve.facts import read_facts, read_json
from imgnode.update.drain import drain, refuse, resume

NOW = Path("run/imgnode/maintenance")
KEPT = Path("var/lib/imgnode/maintenance.json")
_END = "imgnode-maintenance-end"  # a transient timer of systemd
_COMMAND_S = 30


@dataclass(frozen=True)
class Mode:
    """Since when and until when (seconds since 1970; None: until it is ended), and why."""

    since: float
    until: float | None
    reason: str
    keep: bool

    def over(self, now: float) -> bool:
        """Tell whether its time has run out."""
        return self.until is not None and now >= self.until


def read(root: Path = Path("/")) -> Mode | None:
    """Return the maintenance that goes on, None where none does.

    A file that cannot be understood counts: somebody wanted the node left alone.
    """
    if not (root / NOW).exists():
        return None
    mode = _parse(root / NOW) or Mode(0, None, "the file that says so cannot be understood", False)
    return None if mode.over(time.time()) else mode


def begin(mode: Mode, drain_s: float, say: Callable[[str], None], root: Path = Path("/")) -> bool:
    """Leave the node to people, then let running requests end; tell whether none runs any more.

    Raises OSError, also when systemd will not end it at its time (nothing is begun then), or
    ValueError when the image's own files are damaged.
    """
    port = read_facts(root).serve.port
    _schedule(mode.until)
    text = json.dumps(asdict(mode), indent=1) + "\n"
    if mode.keep:
        write_atomic(root / KEPT, text)
    else:
        (root / KEPT).unlink(missing_ok=True)
    write_atomic(root / NOW, text)
    _tell(root)
    return drain(port, drain_s, say)


def end(root: Path = Path("/")) -> bool:
    """Take requests again; tell whether there was a maintenance. Raises OSError."""
    there = (root / NOW).exists() or (root / KEPT).exists()
    (root / KEPT).unlink(missing_ok=True)
    (root / NOW).unlink(missing_ok=True)
    _tell(root)
    _schedule(None)
    resume()
    return there


def bring_back(root: Path = Path("/")) -> Mode | None:
    """Go on, after a reboot, with one that was to be kept; None where that is over.

    Raises OSError or ValueError as `begin` does.
    """
    mode = _parse(root / KEPT)
    if mode is None or mode.over(time.time()):
        end(root)
        return None
    _schedule(mode.until)
    write_atomic(root / NOW, json.dumps(asdict(mode), indent=1) + "\n")
    _tell(root)
    refuse(read_facts(root).serve.port)
    return mode


def lines(mode: Mode | None) -> list[str]:
    """Return what `imgnode status` says of it."""
    if mode is None:
        return []
    until = time.strftime("until %Y-%m-%d %H:%M", time.localtime(mode.until)) if mode.until else ""
    kept = "" if mode.keep else "until the next boot at most"
    why = f"({mode.reason})" if mode.reason else ""
    return [f"maint    ON {', '.join(one for one in (until, kept) if one)} {why}".rstrip()]


def _parse(path: Path) -> Mode | None:
    values = read_json(path) or {}
    try:
        return Mode(
            float(values["since"]),
            None if values["until"] is None else float(values["until"]),
            str(values["reason"]),
            bool(values["keep"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _schedule(until: float | None) -> None:
    """Have systemd end it at its time; forget an earlier time. Raises OSError."""
    process.run(["systemctl", "stop", f"{_END}.timer"], timeout_s=_COMMAND_S)
    if until is None:
        return
    done = process.run(
        [
            "systemd-run",
            f"--unit={_END}",
            f"--on-calendar=@{int(until)}",
            "--timer-property=AccuracySec=1s",
            "/usr/bin/imgnode",
            "maintenance",
            "off",
        ],
        timeout_s=_COMMAND_S,
    )
    if done.rc:
        raise OSError(f"systemd-run: {' '.join(done.stderr.split()) or done.rc}")


def _tell(root: Path) -> None:
    on = float((root / NOW).exists())
    metrics.write("maintenance", {metrics.MAINTENANCE: {(): on}}, root)

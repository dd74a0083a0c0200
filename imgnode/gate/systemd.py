"""What the gate asks of systemd; every question has its time limit."""

from __future__ import annotations

from collections.abc import Mapping

from imgnode.process import run

_ASK_S = 60


def properties(unit: str, *names: str) -> Mapping[str, str]:
    """Return properties of a unit as `systemctl show` tells them; empty text for what it does not.

    Raises OSError when systemd does not answer.
    """
    done = run(["systemctl", "show", f"--property={','.join(names)}", unit], timeout_s=_ASK_S)
    if done.rc:
        raise OSError(done.rc, done.stderr.strip() or "systemctl show failed", unit)
    pairs = [line.partition("=") for line in done.stdout.splitlines()]
    return dict.fromkeys(names, "") | {name: value for name, _, value in pairs}


def failed_units() -> tuple[str, ...]:
    """Return the names of the units that failed. Raises OSError when systemd does not answer."""
    words = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full"]
    done = run(words, timeout_s=_ASK_S)
    if done.rc:
        raise OSError(done.rc, done.stderr.strip() or "systemctl list-units failed", "systemd")
    return tuple(line.split()[0] for line in done.stdout.splitlines() if line.strip())


def running_jobs() -> tuple[str, ...]:
    """Return the names of the units that are being started just now."""
    words = ["systemctl", "list-jobs", "--plain", "--no-legend", "--full"]
    rows = [line.split() for line in run(words, timeout_s=_ASK_S).stdout.splitlines()]
    return tuple(row[1] for row in rows if row[-1:] == ["running"])


def act(*words: str) -> bool:
    """Tell systemd to do something, without waiting for it; tell whether it took it."""
    return run(["systemctl", "--no-block", *words], timeout_s=_ASK_S).rc == 0


def has_job(found: Mapping[str, str]) -> bool:
    """Tell from the property Job whether something is still to be done with a unit."""
    return found["Job"] not in ("", "0")

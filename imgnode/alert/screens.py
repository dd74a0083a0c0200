"""Alerts above the login prompt of the console and below a login, as the gate's verdict is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imgnode.alert.alert import Alert
from imgnode.files import write_atomic
from imgnode.process import run

ISSUE = Path("run/imgnode/alert.issue")  # overlays/base/etc/issue.d
MOTD = Path("run/motd.d/imgnode-alert")  # pam_motd(8)
_MOST = 5
_RELOAD_S = 20


def lines(critical: Sequence[Alert]) -> list[str]:
    """Return what stands there, the oldest first."""
    rest = len(critical) - _MOST
    more = [f"alert: and {rest} more: imgnode alert status"] if rest > 0 else []
    return [*(f"alert: {one}" for one in critical[:_MOST]), *more]


def show(told: Sequence[str], root: Path = Path("/")) -> None:
    """Write the lines; without any, what stood there goes. Raises OSError for a full /run."""
    if told:  # issue(5): agetty would expand backslashes
        write_atomic(root / ISSUE, "\n".join(told).replace("\\", "\\\\") + "\n\n")
        write_atomic(root / MOTD, "\n".join(told) + "\n")
    elif not (root / ISSUE).exists():
        return
    else:
        (root / ISSUE).unlink()
        (root / MOTD).unlink(missing_ok=True)
    run(["/sbin/agetty", "--reload"], timeout_s=_RELOAD_S)

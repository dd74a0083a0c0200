"""A node whose hardware is at fault takes no work: vllm.service does not start while this lasts."""

from __future__ import annotations

from pathlib import Path

from imgnode.files import write_atomic
from imgnode.gate import systemd

FILE = Path("run/imgnode/quarantine")  # vllm.service: ConditionPathExists=!
_UNIT = "vllm.service"


def impose(why: str, root: Path = Path("/")) -> None:
    """Stop serving, and keep it stopped. Raises OSError for a full /run."""
    write_atomic(root / FILE, f"{why}\n")
    systemd.act("stop", _UNIT)


def lift(root: Path = Path("/")) -> None:
    """Let the node serve again, where it was kept from it. Raises OSError."""
    if (root / FILE).exists():
        (root / FILE).unlink()
        systemd.act("start", _UNIT)


def read(root: Path = Path("/")) -> str | None:
    """Return why the node is in quarantine, None where it is not."""
    try:
        return (root / FILE).read_text().strip()
    except OSError:
        return None

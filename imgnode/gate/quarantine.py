"""A node that takes no work: vllm.service does not start while this lasts.

What the gate imposes lasts until it judges otherwise, at the next boot at the latest. What
recovery or a person imposes lasts until a person lifts it.
"""

from __future__ import annotations

from pathlib import Path

from imgnode.files import write_atomic
from imgnode.gate import systemd

FILE = Path("run/imgnode/quarantine")  # vllm.service: ConditionPathExists=!, both
LASTING = Path("var/lib/imgnode/recover/quarantine")
_UNIT = "vllm.service"


def impose(why: str, root: Path = Path("/"), *, lasting: bool = False) -> None:
    """Stop serving, and keep it stopped; `lasting` over reboots. Raises OSError for a full disk."""
    write_atomic(root / (LASTING if lasting else FILE), f"{why}\n")
    systemd.act("stop", _UNIT)


def lift(root: Path = Path("/"), *, lasting: bool = False) -> bool:
    """Let the node serve again; a lasting one goes with `lasting` only. Raises OSError.

    Tells whether there was one to lift.
    """
    files = [root / FILE, root / LASTING] if lasting else [root / FILE]
    there = [path for path in files if path.exists()]
    for path in there:
        path.unlink()
    if there:
        systemd.act("start", _UNIT)
    return bool(there)


def read(root: Path = Path("/")) -> str | None:
    """Return why the node is in quarantine, None where it is not."""
    for path in (root / LASTING, root / FILE):
        try:
            return path.read_text().strip() or "no reason was given"
        except OSError:
            continue
    return None


def hint(root: Path = Path("/")) -> str:
    """Return what ends the quarantine."""
    if (root / LASTING).exists():
        return "mend the machine, then imgnode recover release"
    return "mend the machine, then imgnode gate run"

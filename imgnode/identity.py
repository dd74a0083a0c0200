"""Which image runs, from which slot, on what state."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

_BOOT_COUNT = Path(
    "sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
)

_SLOTS = {"A": 2, "B": 4}  # the partition that holds the root: image/repart.d


@dataclass(frozen=True)
class Identity:
    """What a person asks first about a node; `tries` is None if it booted as a good version."""

    image_id: str
    version: str
    root_hash: str
    tries: str | None
    var_degraded: str | None


def read_identity(root: Path = Path("/")) -> Identity:
    """Return the identity of the running system below `root`.

    `var_degraded` is the reason why /var is volatile, or None. Raises OSError when the
    image does not say what it is.
    """
    facts = json.loads((root / "usr/lib/imgnode/image.json").read_text())
    cmdline = (root / "proc/cmdline").read_text()
    match = re.search(r"\broothash=([0-9a-f]{64})\b", cmdline)
    degraded = root / "run/imgnode/var-degraded"
    return Identity(
        image_id=facts["image_id"],
        version=facts["version"],
        root_hash=match[1] if match else "none",
        tries=_tries(root),
        var_degraded=degraded.read_text().strip() if degraded.exists() else None,
    )


def read_entry(root: Path = Path("/")) -> str | None:
    r"""Return the counted entry that booted, such as `\EFI\Linux\x+2-1.efi`; None for a good one.

    systemd-bless-boot.service(8), LoaderBootCountPath; the firmware keeps it until the next boot.
    """
    try:
        return (root / _BOOT_COUNT).read_bytes()[4:].decode("utf-16-le").rstrip("\0")
    except OSError:
        return None


def read_slot(root: Path = Path("/")) -> str | None:
    """Return the slot that the root lies in, A or B; None where that cannot be told."""
    number = root.stat().st_dev
    parts = (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}/slaves").glob("*")
    try:
        numbers = {int((part / "partition").read_text()) for part in parts}
    except (OSError, ValueError):
        return None
    return next((slot for slot, number in _SLOTS.items() if number in numbers), None)


def _tries(root: Path) -> str | None:
    """Return the boot counter of the entry that booted, such as `+2-1`."""
    match = re.search(r"\+\d+(-\d+)?(?=\.efi$)", read_entry(root) or "")
    return match[0] if match else None

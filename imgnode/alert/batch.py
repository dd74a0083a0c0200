"""What a channel's child is to send, as a file of this boot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from imgnode.alert.alert import Alert
from imgnode.files import write_atomic

_FOLDER = Path("run/imgnode/alert")


def write_batch(channel: str, alerts: Sequence[Alert], root: Path = Path("/")) -> None:
    """Lay down what a channel's child is to send. Raises OSError."""
    text = json.dumps([asdict(one) for one in alerts])
    write_atomic(root / _FOLDER / f"{channel}.json", text, 0o600)


def read_batch(channel: str, root: Path = Path("/")) -> list[Alert]:
    """Return what a channel's child is to send. Raises OSError or ValueError."""
    return [Alert(**one) for one in json.loads((root / _FOLDER / f"{channel}.json").read_text())]

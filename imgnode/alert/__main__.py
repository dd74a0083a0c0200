"""`python -m imgnode.alert CHANNEL ROOT`: sends what the health loop has laid down, as its child.

Exit code 0: the receiver has taken all of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from imgnode.alert.batch import read_batch
from imgnode.alert.send import NotSent, send


def main(channel: str, root: Path) -> int:
    """Send by a channel; say in the journal why that did not work."""
    try:
        send(channel, read_batch(channel, root), root)
    except (NotSent, OSError, ValueError, TypeError) as error:
        print(f"<4>alert: {channel}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

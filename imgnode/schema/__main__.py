"""What units call: `python -m imgnode.schema apply` at boot, `… settle` when a version is good.

Not a command of `imgnode`: everything waits for it, and loading all commands takes three times as
long.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from imgnode.schema import report
from imgnode.schema.apply import apply, settle

_ERR, _WARNING = "<3>", "<4>"  # sd-daemon(3)


def main(argv: list[str], root: Path = Path("/")) -> int:
    """Do it, tell it, and return the exit code."""
    if argv == ["settle"]:
        if settle(root):
            print("state: this version is good, the older form is forgotten")
        return 0
    found, error = None, None
    try:
        found = apply(root)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as fault:
        error = f"{type(fault).__name__}: {fault}"  # logins must come up all the same
    if found and found.done:
        print(f"state: form {found.done}")
    for line in report.tell(found, error, root):
        mark = (_ERR if error else _WARNING) if os.environ.get("JOURNAL_STREAM") else ""
        print(f"{mark}{line}", file=sys.stderr)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""No secret may be part of an image: every node of a profile has it, and who reads a release."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from builder.core.errors import UserError

# A private key as OpenSSL, OpenSSH and GnuPG write it: armour at the start of a line, then base64
# or a header. Programs and examples have the words alone, or indented.
_KEY = re.compile(
    rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\r?\n"
    rb"(?:[A-Za-z0-9+/=]{16,}|[A-Za-z-]+: [^\n]*|)\r?$",
    re.MULTILINE,
)
_LARGEST = 1 << 20
_LOCKED = ("!", "*")


def check_secrets(root: Path) -> None:
    """Raise UserError when a file of the root holds a private key, or a user has a password."""
    found = [*_keys(root), *_passwords(root)]
    if found:
        raise UserError(
            f"the image would hold secrets: {'; '.join(found[:5])}",
            hint="secrets come in the seed, or as credentials (docs/node.md), never in an overlay",
        )


def _keys(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
                continue
            if _KEY.search(path.read_bytes()):
                yield f"/{path.relative_to(root)} is a private key"


def _passwords(root: Path) -> Iterator[str]:
    """Look at shadow(5) and gshadow(5), which have the hash in the second field."""
    for name in ("etc/shadow", "etc/gshadow"):
        if not (root / name).is_file():
            continue
        for line in (root / name).read_text().splitlines():
            user, _, rest = line.partition(":")
            password = rest.partition(":")[0]
            if not password.startswith(_LOCKED) and (password or name == "etc/shadow"):
                yield (
                    f"/{name}: {user} has a password" if password else f"/{name}: {user} needs none"
                )

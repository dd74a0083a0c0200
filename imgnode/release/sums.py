"""SHA256SUMS: one `DIGEST  NAME` line for each file, as sha256sum(1) writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._+-]*)")


def sums_text(digests: Mapping[str, str]) -> str:
    """Return the text of a SHA256SUMS; the same digests by name give the same bytes."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def parse_sums(text: str) -> dict[str, str]:
    """Return the digest of each name.

    Raises ValueError, with the number of the line, for anything but a plain file name with its
    digest: a folder, a hidden name, a name that stands there twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is not a digest and a plain file name: {line[:100]!r}")
        digest, name = match.groups()
        if name in found:
            raise ValueError(f"line {number} names {name} again")
        found[name] = digest
    if not found or not text.endswith("\n"):
        raise ValueError("it is cut short")
    return found

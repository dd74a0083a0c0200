"""Which metrics a PromQL expression asks for (prometheus.io, "Querying basics")."""

from __future__ import annotations

import re

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_DROPPED = re.compile(
    r"\{[^{}]*\}|\[[^\[\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)"
)
_WORD = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*+(?!\s*\()")
_KEYWORDS = {"and", "or", "unless", "offset", "bool"}


def metrics_of(expr: str) -> set[str]:
    """Return the names of metrics; functions, labels, durations and keywords are left out."""
    bare = _DROPPED.sub(" ", _STRINGS.sub("", expr))
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return {word for word in _WORD.findall(bare) if word not in _KEYWORDS}

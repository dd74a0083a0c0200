"""Takes secrets out of texts: by their values where the node knows them, else by their names."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from imgnode.serve.facts import read_json

GONE = "***"
_WORTH_HIDING = 6  # shorter ones (0, INFO) are settings, and would tear holes into the text
_STORES = ("run/credstore", "etc/credstore", "run/credstore.encrypted", "etc/credstore.encrypted")
_GIVEN = Path("run/credentials")
_CONFIGS = (
    Path("run/imgnode/node.json"),
    Path("run/imgnode/serve.json"),
    Path("var/lib/imgnode/model/override.json"),
    Path("var/lib/imgnode/model/proven.json"),
)
_NAME = (
    r"[\w.-]*(?:token(?!s|_id|iz)|secret|passw(?:or)?d|passphrase|credential|api[_-]?key"
    r"|access[_-]?key|private[_-]?key|authorization|auth[_-]?key)[\w.-]*"
)
_SECRETIVE = re.compile(_NAME, re.IGNORECASE)
_VALUE = r"""(?:\\"[^"\\\n]*\\"|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s,;}\]"']+)"""
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", re.DOTALL
        ),
        GONE,
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE), rf"\1 {GONE}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.IGNORECASE), rf"\1{GONE}@"),
    (re.compile(r"\b(?:hf_|sk-|ghp_|glpat-)[A-Za-z0-9_-]{16,}|\bAKIA[A-Z0-9]{16}\b"), GONE),
    (re.compile(r"\$(?:1|2[aby]|5|6|y)\$[^\s:\"']+"), GONE),  # crypt(5)
    (
        re.compile(
            rf"(\b{_NAME}(?:\\?[\"'])?\s*[:=]\s*)(?![\"]?\*\*\*)(?!bearer|basic){_VALUE}",
            re.IGNORECASE,
        ),
        rf"\1{GONE}",
    ),
    (re.compile(rf"(--{_NAME}[= ]){_VALUE}", re.IGNORECASE), rf"\1{GONE}"),
)


class Redactor:
    """Knows the secrets of one node; it never says them."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {part for value in values for part in _parts(value)}
        self._values = sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return a text without secrets; JSON, whole or in lines, is read and stays JSON."""
        whole = self._json(text, indent=1)
        if whole is not None:
            return f"{whole}\n"
        lines = text.split("\n")
        read = [self._json(line) if line.startswith("{") else None for line in lines]
        return self._plain("\n".join(one or line for line, one in zip(lines, read, strict=True)))

    def _json(self, text: str, indent: int | None = None) -> str | None:
        try:
            value = json.loads(text)
        except ValueError:
            return None
        return json.dumps(self._walk(value), indent=indent) if _is_deep(value) else None

    def _walk(self, value: Any, name: str = "") -> Any:  # noqa: ANN401 - JSON
        """Return JSON without the values of variables and of what is secretive by its name."""
        if isinstance(value, Mapping):
            if name.lower() == "env":
                return dict.fromkeys(value, GONE)
            return {self._plain(str(key)): self._walk(one, str(key)) for key, one in value.items()}
        if isinstance(value, list):
            if name.lower() == "env":  # docker inspect: NAME=value
                return [f"{str(one).partition('=')[0]}={GONE}" for one in value]
            return [self._walk(one, name) for one in value]
        if not isinstance(value, str):
            return value
        return GONE if _SECRETIVE.fullmatch(name) else self._plain(value)

    def _plain(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, GONE)
        for pattern, instead in _RULES:
            text = pattern.sub(instead, text)
        return text


def _is_deep(value: object) -> bool:
    return isinstance(value, dict | list)


def of_node(root: Path = Path("/")) -> Redactor:
    """Return what knows the secrets of this node: credentials, and variables of its configs."""
    return Redactor([*_credentials(root), *_variables(root)])


def _parts(value: str) -> Iterator[str]:
    """Yield a value as it may stand in a log: whole, by lines, and as JSON writes it."""
    for one in [value.strip(), *(line.strip() for line in value.splitlines())]:
        if len(one) >= _WORTH_HIDING:
            yield one
            yield json.dumps(one)[1:-1]


def _credentials(root: Path) -> Iterator[str]:
    stores = [root / one for one in _STORES]
    with contextlib.suppress(OSError):
        stores += [one for one in (root / _GIVEN).iterdir() if one.is_dir()]
    for store in stores:
        try:
            files = [one for one in store.iterdir() if one.is_file()]
        except OSError:
            continue
        for path in files:
            try:
                yield path.read_text(errors="replace")
            except OSError:
                continue


def _variables(root: Path) -> Iterator[str]:
    """Yield the values of secretive variables in every config that lies about."""
    for path in _CONFIGS:
        yield from _secret_values(read_json(root / path) or {})


def _secret_values(value: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping) and set(value) != {"secret"}:  # that is but a name
        for key, one in value.items():
            yield from _secret_values(one, str(key))
    elif isinstance(value, list):
        for one in value:
            yield from _secret_values(one, name)
    elif isinstance(value, str) and _SECRETIVE.fullmatch(name):
        yield value

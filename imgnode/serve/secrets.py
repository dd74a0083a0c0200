"""Turns `{secret: NAME}` into the secret: a credential of the service (systemd.exec(5))."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode.fault import SECRET, Fault
from imgnode.serve.names import API_KEY, FIXED_ENV, HF_TOKEN

_PREFIX = "imgnode."
# Where the service manager looks, too, for who is no service of its own.
_BY_HAND = ("run/credstore", "etc/credstore", "run/credentials/@system")
Find = Callable[[str], str | None]


@dataclass(frozen=True)
class Secrets:
    """`env` is for the client's environment; no repr, so that no traceback shows it."""

    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    hf_token: str | None = field(default=None, repr=False)

    @property
    def api_key(self) -> str | None:
        """The key that clients must show."""
        return self.env.get(API_KEY)

    def redact(self, text: str) -> str:
        """Return a text without any of the values."""
        for value in filter(None, [*self.env.values(), self.hf_token]):
            text = text.replace(value, "***") if len(value) >= _WORTH_HIDING else text
        return text


_WORTH_HIDING = 6  # shorter ones (0, INFO) are settings, and would tear holes into the text


def credentials(root: Path = Path("/")) -> Find:
    """Return the finder of this process: the service's credentials, else the node's own stores."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    folders = [Path(given)] if given else [root / place for place in _BY_HAND]

    def find(name: str) -> str | None:
        for folder in folders:
            try:
                return (folder / f"{_PREFIX}{name}").read_text().removesuffix("\n")
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                return ""
        return None

    return find


def resolve(settings: Mapping[str, Any], find: Find) -> Secrets:
    """Return every variable of the seed with its value. Raises Fault for a missing secret."""
    given = dict(settings.get("env") or {})
    if settings.get("api_key"):
        given[API_KEY] = settings["api_key"]
    env = {}
    for name, value in given.items():
        if name not in FIXED_ENV:
            key = "api_key" if name == API_KEY else f"env.{name}"
            env[name] = value if isinstance(value, str) else _secret(key, value["secret"], find)
    return Secrets(env, env.pop(HF_TOKEN, None))


def _secret(key: str, name: str, find: Find) -> str:
    value = find(name)
    where = f"/etc/credstore/{_PREFIX}{name}"
    if value is None:
        hint = (
            f"write it to {where}, mode 0600 (write_files in the seed), "
            f"or give the machine the system credential {_PREFIX}{name}"
        )
        raise Fault(SECRET, f"inference.{key}: the secret {name!r} is not on this node", hint)
    if not value or not value.isprintable():
        fact = f"inference.{key}: the secret {name!r} is empty, or not one line of text"
        raise Fault(SECRET, fact, f"look at {where}")
    return value

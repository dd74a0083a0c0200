"""One-time tokens: who shows a node's token gets its seed, for one installation.

The first machine that shows it owns it until its installation is over: an installer that was cut
off asks again. Only a digest is kept. A grant is a token that nobody has to show: for a machine
that has asked, and was looked at by somebody.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.model.base import Closed
from builder.serve.identity import Identity

LIFETIME_S, GRANT_S = 7 * 86400.0, 3600.0


class Token(Closed):
    """What is kept of a token."""

    schema_version: Literal[1] = 1
    sha256: str
    expires: float
    owner: Identity | None = None
    spent: bool = False
    granted: bool = False

    def stale(self, who: Identity, now: float) -> str | None:
        """Return why this token is no longer good for a machine; None: it is."""
        if self.spent:
            return "the token was used"
        if now >= self.expires:
            return "the token is too old"
        if self.owner and not set(self.owner.words) & set(who.words):
            return "another machine has shown this token before"
        return None

    def allows(self, who: Identity, now: float) -> bool:
        """Tell whether this is a grant for a machine; it has to be all that it was."""
        owner = set(self.owner.words) if self.granted and self.owner else set()
        return bool(owner) and owner <= set(who.words) and self.stale(who, now) is None


@dataclass(frozen=True)
class Tokens:
    """The tokens below STATE/tokens."""

    folder: Path

    def make(self, name: str, now: float, lifetime_s: float = LIFETIME_S) -> str:
        """Return a new token of a node; the one before is no longer good."""
        text = secrets.token_urlsafe(24)
        self._write(name, Token(sha256=_digest(text), expires=now + lifetime_s))
        return text

    def judge(self, name: str, shown: str, who: Identity, now: float) -> str | None:
        """Return why a token is refused; None: it is good, and this machine's from now on."""
        token = self._read(name)
        if not shown:
            allowed = token is not None and token.allows(who, now)
            return None if allowed else "its seed has secrets: it needs a token"
        if token is None or not hmac.compare_digest(token.sha256, _digest(shown)):
            return "the token is wrong"
        if why := token.stale(who, now):
            return why
        if token.owner is None:
            self._write(name, token.model_copy(update={"owner": who}))
        return None

    def grant(self, name: str, who: Identity, now: float) -> None:
        """Let one machine have its seed without a token, if it asks within an hour."""
        digest = _digest(secrets.token_urlsafe(24))
        self._write(name, Token(sha256=digest, expires=now + GRANT_S, owner=who, granted=True))

    def spend(self, name: str) -> None:
        """Let a node's token be good for nothing any more."""
        token = self._read(name)
        if token is not None and not token.spent:
            self._write(name, token.model_copy(update={"spent": True}))

    def _write(self, name: str, token: Token) -> None:
        write_atomic(self.folder / f"{name}.json", f"{token.model_dump_json(indent=1)}\n", 0o600)

    def _read(self, name: str) -> Token | None:
        path = self.folder / f"{name}.json"
        try:
            return Token.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            fact = f"{path}: cannot be understood: {str(error).splitlines()[0]}"
            raise UserError(fact, hint="imgbuild orders token makes a new one") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

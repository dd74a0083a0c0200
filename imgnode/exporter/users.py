"""Basic authentication (RFC 7617) against hashes by bcrypt."""

from __future__ import annotations

import base64
import binascii
import crypt
import hmac
import threading
from collections.abc import Mapping

_NOBODY = "$2b$10$" + "." * 53  # what an unknown name is compared with, so that it takes as long


class Users:
    """Who is let in: bcrypt hashes by name, as crypt(5) checks them.

    A hash is slow to check by design, so the last header that was right is kept for each name.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes
        self._right: dict[str, bytes] = {}
        self._one = threading.Lock()  # guessing costs one processor at most

    def admit(self, header: str) -> bool:
        """Tell whether the value of `Authorization:` is right."""
        kind, _, data = header.partition(" ")
        try:
            name, _, password = base64.b64decode(data, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        known = self._right.get(name)
        if known is not None and hmac.compare_digest(known, data.encode()):
            return True
        if kind.lower() != "basic" or "\0" in password:
            return False
        wanted = self._hashes.get(name, _NOBODY)
        with self._one:
            is_right = hmac.compare_digest(crypt.crypt(password, wanted), wanted)
        if is_right and name in self._hashes:
            self._right[name] = data.encode()
            return True
        return False

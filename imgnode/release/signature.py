"""Detached OpenPGP signatures, checked by gpgv(1) against a keyring; and the signed text file.

gpgv's exit status is no answer: it is 0 for a signature by a key that has expired, and not 0 for
a good signature beside one by an unknown key. What counts are its status lines (GnuPG,
doc/DETAILS).
"""

from __future__ import annotations

from pathlib import Path

KEYRING = Path("usr/lib/imgnode/release-keyring.gpg")  # in the root, so dm-verity vouches for it
_STATUS = "[GNUPG:] "
_BEGIN = "-----BEGIN PGP SIGNATURE-----\n"
_END = "-----END PGP SIGNATURE-----\n"
_NOT_GOOD = {
    "EXPKEYSIG": "its key has expired",
    "EXPSIG": "it has expired",
    "REVKEYSIG": "its key was revoked",
    "ERRSIG": "its key is not in the keyring",
}
_PRIMARY = 9  # of VALIDSIG's words, the primary key's fingerprint


class BadSignature(Exception):
    """The data is not signed as it must be; the text says why."""


def gpgv_command(keyring: Path, signature: Path, data: Path) -> list[str]:
    """Return the command that checks `data`; its output is for `signers`, whatever it ends with.

    All paths must be absolute: gpgv looks for a bare name in its home folder.
    """
    words = ["gpgv", "--quiet", "--status-fd", "1", "--weak-digest", "SHA1"]
    words += ["--weak-digest", "RIPEMD160", "--keyring", str(keyring)]
    return [*words, "--", str(signature), str(data)]


def signers(status: str) -> tuple[str, ...]:
    """Return the fingerprints of the primary keys that signed, by gpgv's status lines.

    One good signature by a key of the keyring is enough, as keys are rotated. Raises
    BadSignature when there is none, or when one by a key of the keyring does not fit the data.
    """
    found: list[str] = []
    reasons: list[str] = []
    good = False
    for line in status.splitlines():
        if not line.startswith(_STATUS):
            continue
        word, *rest = line.removeprefix(_STATUS).split()
        if word == "NEWSIG":
            good = False
        elif word == "BADSIG":
            raise BadSignature("the signature is of other bytes than these")
        elif word == "GOODSIG":
            good = True
        elif word == "VALIDSIG" and good and len(rest) > _PRIMARY:
            found.append(rest[_PRIMARY])
        elif word in _NOT_GOOD:
            good = False
            reasons.append(_NOT_GOOD[word])
    if not found:
        raise BadSignature("; ".join(dict.fromkeys(reasons)) or "it holds no signature")
    return tuple(dict.fromkeys(found))


def join_signed(text: str, signature: str) -> str:
    """Return the signed text file: the text, then the armored signature of exactly its bytes."""
    return text + signature


def split_signed(signed: str) -> tuple[str, str]:
    """Return text and armored signature of a signed text file. Raises BadSignature."""
    text, begin, rest = signed.partition(_BEGIN)
    if not begin or not text.endswith("\n"):
        raise BadSignature("it holds no signature")
    if not rest.endswith(_END) or rest.count("-----") != 2:  # noqa: PLR2004 - of its last line
        raise BadSignature("its signature is cut short, or something follows it")
    return text, begin + rest

"""OpenPGP by the build host's gpg(1) and gpgv(1): keyrings, and checks of signatures.

gpg works in a home of its own, in memory: whatever ends it, no secret is left on the disk, and
no agent.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import CommandError, Finished, Runner
from imgnode.release.signature import gpgv_command, signers

_PACKAGES = {
    "bwrap": "bubblewrap",
    "cert-to-efi-sig-list": "efitools",
    "dnsmasq": "dnsmasq-base",
    "faketime": "faketime",
    "gpg": "gnupg",
    "gpgv": "gpgv",
    "ip": "iproute2",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "sbattach": "sbsigntool",
    "sbsign": "sbsigntool",
    "sbverify": "sbsigntool",
    "sign-efi-sig-list": "efitools",
    "zstd": "zstd",
}
_ARMOR = re.compile(
    r"-----BEGIN PGP [A-Z ]+-----\n(?:[^\n]+\n)*\n([A-Za-z0-9+/=\n]+?)\n(?:=[A-Za-z0-9+/]{4}\n)?"
    r"-----END PGP [A-Z ]+-----"
)
_LINE = 64
_LEAST_BYTES = 20
_PRIMARIES = ("pub", "sec")
_EXPIRED, _REVOKED = "e", "r"
HOME = "/tmp/home"  # noqa: S108 - inside the sandbox


@dataclass(frozen=True)
class PublicKey:
    """One primary key of a file; times are seconds since 1970, `expires` None for never."""

    fingerprint: str
    user: str
    created: int
    expires: int | None
    secret: bool
    usable: bool


def need_programs(*names: str) -> None:
    """Raise UserError when one of the programs is not there."""
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        packages = " ".join(sorted({_PACKAGES[name] for name in missing}))
        raise UserError(
            f"without {', '.join(missing)}: not installed", hint=f"apt-get install {packages}"
        )


def private_gpg(
    runner: Runner,
    script: str,
    *,
    files: Mapping[str, Path] | None = None,
    work: Path | None = None,
    stdin: str | None = None,
) -> Finished:
    """Run a shell script that uses gpg with an empty home of its own (GNUPGHOME).

    It sees `files` as /tmp/NAME, and may write to `work`, as /tmp/work; /tmp/passphrase is
    always there. Raises CommandError.
    """
    words: list[str | Path] = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-net"]
    words += ["--dev-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/run", "--tmpfs", "/tmp"]  # noqa: S108
    for name, path in (files or {}).items():
        words += ["--ro-bind", path.absolute(), f"/tmp/{name}"]  # noqa: S108
    if work:
        words += ["--bind", work.absolute(), "/tmp/work"]  # noqa: S108
    whole = f"set -eu; umask 077; mkdir {HOME}; cd /tmp\n"
    if "passphrase" not in (files or {}):
        whole += ": > passphrase\n"  # an empty one: gpg asks nobody
    whole += script
    words += ["--", "sh", "-c", whole]
    return runner.run(words, env={"GNUPGHOME": HOME}, stdin=stdin, called="gpg")


def show_keys(runner: Runner, path: Path) -> list[PublicKey]:
    """Return every key in a file, armored or not. Raises UserError when there is none."""
    script = "gpg --batch --quiet --show-keys --with-colons --fixed-list-mode /tmp/keys"
    try:
        listing = private_gpg(runner, script, files={"keys": path}).stdout
    except CommandError as error:
        raise _no_keys(path, str(error)) from None
    found = _listed(listing)
    if not found:
        raise _no_keys(path, "gpg finds no key in it")
    return found


def read_keyring(path: Path) -> bytes:
    """Return the binary form of a file of public keys, as gpgv wants it. Raises UserError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}",
            hint="name a file of public keys, such as imgbuild keys new writes",
        ) from None
    if not data.startswith(b"-----BEGIN"):
        return data
    try:
        return dearmored(data.decode("ascii", "replace"))
    except ValueError as error:
        raise _no_keys(path, str(error)) from None


def public_keyring(runner: Runner, paths: Sequence[Path], target: Path) -> list[PublicKey]:
    """Write one keyring for gpgv that holds the keys of all files; return the keys.

    Raises UserError for a file without keys, and for one with a secret key.
    """
    found = []
    for path in paths:
        data = read_keyring(path)
        keys = show_keys(runner, path)
        if any(key.secret for key in keys):
            hint = "never hand it out: the public half is what belongs here"
            raise UserError(f"{path}: holds a secret key", hint=hint)
        found += keys
        with target.open("ab") as out:
            out.write(data)
    return found


def check_signature(runner: Runner, keyring: Path, signature: Path, data: Path) -> tuple[str, ...]:
    """Return the fingerprints of the keys of `keyring` that signed `data`. Raises BadSignature."""
    command = gpgv_command(keyring.absolute(), signature.absolute(), data.absolute())
    return signers(runner.run(command, ok=range(256)).stdout)


def dearmored(text: str) -> bytes:
    """Return what the armored blocks of a text hold, one after the other. Raises ValueError."""
    try:
        parts = [
            base64.b64decode(block.replace("\n", ""), validate=True)
            for block in _ARMOR.findall(text.replace("\r\n", "\n"))
        ]
    except binascii.Error:
        parts = []
    joined = b"".join(parts)
    if len(joined) < _LEAST_BYTES:
        raise ValueError("it holds no armored OpenPGP data")
    return joined


def armored_signature(data: bytes) -> str:
    """Return signature packets as text (RFC 9580, 6.2; its checksum is optional)."""
    body = base64.b64encode(data).decode()
    lines = [body[at : at + _LINE] for at in range(0, len(body), _LINE)]
    return "\n".join(
        ["-----BEGIN PGP SIGNATURE-----", "", *lines, "-----END PGP SIGNATURE-----", ""]
    )


def _listed(listing: str) -> list[PublicKey]:
    """Read gpg's listing of keys (GnuPG, doc/DETAILS, format of the colon listings)."""
    found: list[PublicKey] = []
    fields: list[str] = []
    fingerprint = ""
    for row in (line.split(":") for line in listing.splitlines()):
        if row[0] in _PRIMARIES:
            fields, fingerprint = row, ""
        elif row[0] == "fpr" and fields and not fingerprint:
            fingerprint = row[9]
        elif row[0] == "uid" and fields and fingerprint:
            found.append(_key(fields, fingerprint, row[9]))
            fields = []
    return found


def _key(fields: list[str], fingerprint: str, user: str) -> PublicKey:
    return PublicKey(
        fingerprint=fingerprint,
        user=user,
        created=int(fields[5] or 0),
        expires=int(fields[6]) if fields[6] else None,
        secret=fields[0] == "sec",
        usable=fields[1] not in (_EXPIRED, _REVOKED),
    )


def _no_keys(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: is no file of OpenPGP keys: {why}",
        hint="imgbuild keys new makes keys; gpg --export FINGERPRINT writes a public one",
    )

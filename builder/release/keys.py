"""Makes release keys: one secret key file, one public keyring."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import scratch
from builder.core.gpg import PublicKey, need_programs, private_gpg, show_keys

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SECRET_END, PUBLIC_END = ".secret.asc", ".gpg"
# Secret and public half appear in the folder that only root may enter, then take their names.
_MAKE = """
gpg --batch --quiet --pinentry-mode loopback --passphrase-file /tmp/passphrase \
    --quick-generate-key {user} ed25519 sign never
gpg --batch --quiet --pinentry-mode loopback --passphrase-file /tmp/passphrase \
    --armor --export-secret-keys > /tmp/work/secret
gpg --batch --quiet --export > /tmp/work/public
"""


@dataclass(frozen=True)
class NewKey:
    """A key that was made."""

    key: PublicKey
    secret: Path
    public: Path


def new_key(context: Context, folder: Path, name: str, passphrase: Path | None) -> NewKey:
    """Make an Ed25519 key that never expires; write both halves to `folder`.

    `passphrase` is a file whose first line protects the secret half. Raises UserError when
    there is such a key already, or the folder lies in the project.
    """
    need_programs("gpg", "bwrap")
    secret, public = folder / f"{name}{SECRET_END}", folder / f"{name}{PUBLIC_END}"
    _check(context, folder, name, [secret, public])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with scratch(folder / f".{name}.part", 0o700) as work:
        files = {"passphrase": passphrase} if passphrase else {}
        script = _MAKE.format(user=shlex.quote(f"{name} (imgbuild release key)"))
        private_gpg(context.runner, script, files=files, work=work)
        (work / "secret").chmod(0o600)
        (work / "public").chmod(0o644)
        (work / "secret").rename(secret)
        (work / "public").rename(public)
    return NewKey(show_keys(context.runner, public)[0], secret, public)


def _check(context: Context, folder: Path, name: str, files: list[Path]) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a key", hint="use letters, digits, dots and hyphens"
        )
    if folder.resolve().is_relative_to(context.project.root.resolve()):
        raise UserError(
            f"{folder}: lies in the project, where a secret key must never be",
            hint="name a folder elsewhere; only the public keyring goes to config/sites/",
        )
    for path in files:
        if path.exists():
            raise UserError(
                f"{path}: there is a key of that name",
                hint="a key cannot be had again: choose another name, or move it away",
            )

"""Signs texts: with a key file, with a key that gpg's agent holds, or with a command.

No secret ever stands in an argument, in a log or in the project.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from builder.core.errors import UserError
from builder.core.gpg import (
    armored_signature,
    check_signature,
    dearmored,
    need_programs,
    private_gpg,
    public_keyring,
    show_keys,
)
from builder.core.process import CommandError, Runner
from builder.core.sandbox import tied
from imgnode.release.signature import BadSignature

_AGENT, _COMMAND = "gpg:", "command:"
_TOLD = ("HOME", "GNUPGHOME", "GPG_TTY", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
_SIGN = "gpg --batch --quiet --digest-algo SHA512 --armor --detach-sign"
_PASSPHRASE = "--pinentry-mode loopback --passphrase-file /tmp/passphrase"  # noqa: S105


class Key(Protocol):
    """Something that signs."""

    def sign(self, runner: Runner, text: str) -> str:
        """Return an armored detached signature of a text. Raises UserError."""

    def public(self, runner: Runner, work: Path) -> Path | None:
        """Return a file with the public half, made in `work`; None where it is not known."""


@dataclass(frozen=True)
class FileKey:
    """A file with one secret key; `passphrase` is a file, too, where the key has one."""

    path: Path
    passphrase: Path | None = None

    def sign(self, runner: Runner, text: str) -> str:
        """Return an armored detached signature of a text."""
        return self._gpg(runner, f"{_SIGN} {_PASSPHRASE}", stdin=text)

    def public(self, runner: Runner, work: Path) -> Path:
        """Return a file with the public half."""
        target = work / "public.gpg"
        self._gpg(runner, f"gpg --batch --quiet --export > /tmp/work/{target.name}", work=work)
        return target

    def _gpg(
        self, runner: Runner, script: str, *, work: Path | None = None, stdin: str | None = None
    ) -> str:
        files = {"key": self.path}
        if self.passphrase:
            files["passphrase"] = self.passphrase
        whole = f"gpg --batch --quiet {_PASSPHRASE} --import /tmp/key </dev/null >&2\n{script}"
        try:
            return private_gpg(runner, whole, files=files, work=work, stdin=stdin).stdout
        except CommandError as error:
            hint = "a key with a passphrase needs --passphrase-file"
            raise UserError(f"{self.path}: does not sign\n{error}", hint=hint) from None


@dataclass(frozen=True)
class AgentKey:
    """A key that this user's gpg-agent reaches: in its store, on a smart card, by PKCS#11."""

    fingerprint: str

    def sign(self, runner: Runner, text: str) -> str:
        """Return an armored detached signature of a text."""
        return self._gpg(runner, [*_SIGN.split(), "--local-user", self.fingerprint], text)

    def public(self, runner: Runner, work: Path) -> Path:
        """Return a file with the public half."""
        target = work / "public.asc"
        words = ["gpg", "--batch", "--armor", "--export", self.fingerprint]
        target.write_text(self._gpg(runner, words, None))
        return target

    def _gpg(self, runner: Runner, words: list[str], stdin: str | None) -> str:
        env = {name: os.environ[name] for name in _TOLD if name in os.environ}
        try:
            return runner.run(words, env=env, stdin=stdin).stdout
        except CommandError as error:
            hint = "gpg --list-secret-keys shows what your gpg-agent can sign with"
            raise UserError(
                f"{_AGENT}{self.fingerprint}: does not sign\n{error}", hint=hint
            ) from None


@dataclass(frozen=True)
class CommandKey:
    """A command that reads a text from standard input and writes an armored signature."""

    words: tuple[str, ...]

    def sign(self, runner: Runner, text: str) -> str:
        """Return an armored detached signature of a text."""
        env = {name: os.environ[name] for name in _TOLD if name in os.environ}
        try:
            return runner.run(tied(self.words), env=env, stdin=text, called=self.words[0]).stdout
        except CommandError as error:
            raise UserError(
                f"{_COMMAND}{self.words[0]}: does not sign\n{error}",
                hint="it gets the text on standard input and writes an armored signature",
            ) from None

    def public(self, runner: Runner, work: Path) -> None:
        """Return None: a command does not show its key."""


@dataclass(frozen=True)
class Signer:
    """One or more keys, and the keyring against which each signature is checked at once."""

    runner: Runner
    keys: tuple[Key, ...]
    keyring: Path

    def sign(self, text: str, work: Path) -> str:
        """Return one armored signature by all keys, of the text's bytes.

        Raises UserError when a key does not sign, or the keyring does not know it.
        """
        data, signature = work / "signed", work / "signature"
        data.write_text(text)
        packets = b""
        for key in self.keys:
            armored = key.sign(self.runner, text)
            signature.write_text(armored)
            self._check(key, signature, data)
            packets += dearmored(armored)
        return armored_signature(packets)

    def _check(self, key: Key, signature: Path, data: Path) -> None:
        try:
            check_signature(self.runner, self.keyring, signature, data)
        except BadSignature as error:
            raise UserError(
                f"{_shown(key)}: its signature would not be accepted: {error}",
                hint="the nodes' keyring (--keyring) must hold the public half of each --key",
            ) from None


def parse_key(text: str, passphrase: Path | None) -> Key:
    """Return the key that a --key names. Raises UserError."""
    if text.startswith(_AGENT):
        return AgentKey(text.removeprefix(_AGENT))
    if text.startswith(_COMMAND):
        words = tuple(shlex.split(text.removeprefix(_COMMAND)))
        if not words:
            raise UserError(f"{text}: names no command", hint="such as command:./sign.sh")
        return CommandKey(words)
    path = Path(text)
    if not path.is_file():
        hint = "name a secret key file (imgbuild keys new), gpg:FINGERPRINT or command:PROGRAM"
        raise UserError(f"{path}: there is no such key", hint=hint)
    return FileKey(path, passphrase)


def make_signer(
    runner: Runner, keys: Sequence[Key], keyrings: Sequence[Path], work: Path
) -> Signer:
    """Return the signer of a run, after a first signature that nobody sees: all keys work.

    Without `keyrings` each key is checked against its own public half. Raises UserError.
    """
    need_programs("gpg", "gpgv", "bwrap")
    for key in keys:
        if isinstance(key, FileKey):
            _one_secret(runner, key.path)
    known = list(keyrings)
    if not known:
        for number, key in enumerate(keys):
            own = work / f"key-{number}"
            own.mkdir()
            public = key.public(runner, own)
            if public is None:
                hint = "a command does not show its public key: name the nodes' keyring"
                raise UserError(f"{_shown(key)}: needs --keyring", hint=hint)
            known.append(public)
    keyring = work / "keyring.gpg"
    public_keyring(runner, known, keyring)
    signer = Signer(runner, tuple(keys), keyring)
    signer.sign("imgbuild: a first try of the keys\n", work)
    return signer


def _one_secret(runner: Runner, path: Path) -> None:
    keys = show_keys(runner, path)
    if len(keys) != 1 or not keys[0].secret:
        raise UserError(
            f"{path}: holds {len(keys)} keys"
            + ("" if any(key.secret for key in keys) else ", none of them secret"),
            hint="name a file with exactly one secret key, such as imgbuild keys new writes",
        )


def _shown(key: Key) -> str:
    match key:
        case FileKey():
            return str(key.path)
        case AgentKey():
            return f"{_AGENT}{key.fingerprint}"
        case CommandKey():
            return f"{_COMMAND}{key.words[0]}"
        case _:
            return "key"

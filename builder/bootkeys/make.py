"""Makes the keys of Secure Boot: PK, KEK and db, with the files that enrol them; and that of TPMs.

Firmware believes db for what it starts, KEK for changes to db, PK for changes to KEK. A build
needs db alone.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import scratch
from builder.core.gpg import need_programs
from builder.core.process import CommandError, Runner

PROGRAMS = ("openssl", "cert-to-efi-sig-list", "sign-efi-sig-list")
ROLES = {"PK": "PK", "KEK": "PK", "db": "KEK"}  # variable → whose key vouches for it
PCR_KEY, PCR_PUBLIC = "pcr.key", "pcr.pub"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,31}")
_DAYS = 7300  # firmware looks at no date; openssl wants one
_BITS = 2048  # what every firmware knows


@dataclass(frozen=True)
class BootKeys:
    """Keys that were made: the folder, and its files by name."""

    folder: Path
    files: tuple[str, ...]


def new_boot_keys(context: Context, folder: Path, name: str, trusted: Sequence[Path]) -> BootKeys:
    """Make PK, KEK and db in `folder`, each as NAME.key, NAME.crt and NAME.auth.

    db also believes the certificates `trusted` (PEM or DER): those of option ROMs, or of keys
    that are on their way out. Raises UserError when there are such files, or the folder lies
    in the project.
    """
    need_programs(*PROGRAMS)
    files = tuple(f"{role}.{end}" for role in ROLES for end in ("auth", "crt", "key"))
    _check(context, folder, name, [folder / file for file in files])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with scratch(folder / ".boot-keys.part", 0o700) as work:
        _make(context.runner, work, name, trusted)
        for file in files:
            (work / file).chmod(0o600 if file.endswith(".key") else 0o644)
            (work / file).rename(folder / file)
    return BootKeys(folder, files)


def new_pcr_key(context: Context, folder: Path) -> BootKeys:
    """Make the key by whose signatures TPMs know kernel images: pcr.key and pcr.pub in `folder`.

    Raises UserError when there are such files, or the folder lies in the project.
    """
    need_programs("openssl")
    files = (PCR_KEY, PCR_PUBLIC)
    _check_place(context, folder, [folder / file for file in files])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with scratch(folder / ".pcr-key.part", 0o700) as work:
        key, public = work / PCR_KEY, work / PCR_PUBLIC
        told = ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{_BITS}"]
        context.runner.run(["openssl", "genpkey", *told, "-out", key])
        context.runner.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public])
        key.chmod(0o600)
        public.chmod(0o644)
        for file in files:
            (work / file).rename(folder / file)
    return BootKeys(folder, files)


def _make(runner: Runner, work: Path, name: str, trusted: Sequence[Path]) -> None:
    owner = str(uuid.uuid4())
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    for role in ROLES:
        told = ["req", "-x509", "-newkey", f"rsa:{_BITS}", "-nodes", "-sha256"]
        told += ["-days", str(_DAYS), "-subj", f"/CN={name} {role}"]
        made: list[str | Path] = ["-keyout", work / f"{role}.key", "-out", work / f"{role}.crt"]
        runner.run(["openssl", *told, *made])
        _as_list(runner, owner, work / f"{role}.crt", work / f"{role}.esl")
    for number, certificate in enumerate(trusted):
        _trust(runner, owner, certificate, work / f"trusted-{number}", work / "db.esl")
    for role, by in ROLES.items():
        words: list[str | Path] = ["sign-efi-sig-list", "-t", moment, "-g", owner]
        pair: list[str | Path] = ["-k", work / f"{by}.key", "-c", work / f"{by}.crt"]
        runner.run([*words, *pair, role, work / f"{role}.esl", work / f"{role}.auth"])


def _as_list(runner: Runner, owner: str, certificate: Path, target: Path) -> None:
    runner.run(["cert-to-efi-sig-list", "-g", owner, certificate, target])


def _trust(runner: Runner, owner: str, certificate: Path, work: Path, db: Path) -> None:
    """Add another's certificate to the list of db."""
    pem = work.with_suffix(".crt")
    try:
        runner.run(["openssl", "x509", "-in", certificate, "-out", pem])
    except CommandError as error:
        raise UserError(
            f"{certificate}: is no certificate: {next(iter(error.output.splitlines()), '')}",
            hint="give an X.509 one, PEM or DER",
        ) from None
    _as_list(runner, owner, pem, work.with_suffix(".esl"))
    with db.open("ab") as stream:
        stream.write(work.with_suffix(".esl").read_bytes())


def _check(context: Context, folder: Path, name: str, files: Sequence[Path]) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for keys",
            hint="use letters, digits, spaces, dots and hyphens, at most 32",
        )
    _check_place(context, folder, files)


def _check_place(context: Context, folder: Path, files: Sequence[Path]) -> None:
    if folder.resolve().is_relative_to(context.project.root.resolve()):
        raise UserError(
            f"{folder}: lies in the project, where a private key must never be",
            hint="name a folder elsewhere",
        )
    for path in files:
        if path.exists():
            raise UserError(
                f"{path}: is there already",
                hint="nodes that know it know no other: name another folder",
            )

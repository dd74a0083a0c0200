"""Secure Boot: signs what the firmware starts, and lays the files that enrol the site's keys.

sbsign(1) writes the time into the signature, so it runs at the image's own (faketime(1)): one
lock and one key give the same bytes. Programs of the build host do it, not of the tools tree:
the key, or the way to the device that holds it, stays there.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.gpg import need_programs
from builder.core.hashing import sha256_file
from builder.core.process import CommandError, Runner
from builder.model.artifacts import Manifest
from builder.model.site import ENROLMENT, Site
from builder.model.spec import Spec

PKCS11 = "pkcs11:"
PROGRAMS = ("sbsign", "sbverify", "faketime", "openssl")
UKI, LOADER = "uki.efi", "systemd-bootx64.efi"
_ON_ESP = "EFI/BOOT/BOOTX64.EFI"
_PLACE = "loader/keys/auto"  # systemd-boot(7)
_WHERE = "site: secure_boot"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class BootSigning:
    """The site's key pair, a file or a pkcs11: address and a file, and its enrolment files.

    With `signatures`, by the programs' names, these are attached and nothing is signed.
    """

    key: str
    certificate: Path
    files: tuple[Path, ...]
    enrolment: Literal["manual", "if-safe", "force"]
    signatures: Mapping[str, Path] | None = None

    def digests(self) -> list[str]:
        """Return what the image depends on: the certificate stands for its key."""
        return [self.enrolment, *(sha256_file(path) for path in (self.certificate, *self.files))]


def boot_signing(sites: Path, site: Site) -> BootSigning | None:
    """Return how the site signs, None where it does not.

    Raises UserError when a file is not there; whether the key is, is not looked at.
    """
    if (said := site.secure_boot) is None:
        return None
    names = [f"{said.enrol}/{name}" for name in ENROLMENT] if said.enrol else []
    return BootSigning(
        key=said.key if _is_pkcs11(said.key) else str(sites / said.key),
        certificate=_file(sites, "certificate", said.certificate),
        files=tuple(_file(sites, "enrol", name) for name in names),
        enrolment=said.enrolment,
    )


def check_boot_signing(context: Context, spec: Spec, signing: BootSigning | None) -> None:
    """Look at the site's key before anything is built.

    Raises UserError for missing programs, and for a key that cannot be read, is not RSA (other
    signatures differ each time, and firmware does not know them) or not the certificate's; and
    for a GPU driver whose modules the kernel would refuse.
    """
    if signing is None:
        return
    if spec.profile.gpu and not spec.site.module_key:
        raise UserError(
            f"site {spec.site_name}: secure_boot without module_key: a kernel that was started by "
            f"Secure Boot loads no unsigned GPU driver, and profile {spec.profile_name} has one",
            hint="name db's key and certificate as module_key, too",
        )
    if signing.signatures is not None:
        need_programs("sbattach")
        return
    need_programs(*PROGRAMS)
    if not _is_pkcs11(signing.key):
        _file(Path(), "key", signing.key)
    words = ["-in", str(signing.certificate), "-noout", "-pubkey"]
    wanted = _asked(context.runner, "certificate", ["x509", *words], "give an X.509 one, in PEM")
    engine = ["-engine", "pkcs11", "-inform", "engine"] if _is_pkcs11(signing.key) else []
    words = [*engine, "-in", signing.key, "-pubout", "-text_pub"]
    hint = "give a private key in PEM without a passphrase, or a pkcs11: address with its PIN"
    found = _asked(context.runner, "key", ["pkey", *words], hint)
    if "Modulus:" not in found:
        raise UserError(f"{_WHERE}.key: is no RSA key", hint=_MAKE)
    if _public(found) != _public(wanted):
        fact = f"{_WHERE}: {signing.certificate} is the certificate of another key"
        raise UserError(fact, hint="name the pair that imgbuild keys secure-boot made")


def sign_program(runner: Runner, signing: BootSigning, program: Path, epoch: int) -> None:
    """Sign an EFI program in its place, at the time `epoch`.

    Raises UserError when that fails, or the certificate does not take the signature; one that
    was made before is attached unseen.
    """
    if signing.signatures is not None:
        if made := signing.signatures.get(program.name):
            runner.run(["sbattach", "--attach", made, program])
        return
    signed = program.with_name(f"{program.name}.signed")
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(epoch))
    engine = ["--engine", "pkcs11"] if _is_pkcs11(signing.key) else []
    words: list[str | Path] = ["faketime", "-f", moment, "sbsign", *engine, "--key", signing.key]
    files: list[str | Path] = ["--cert", signing.certificate, "--output", signed, program]
    try:
        runner.run([*words, *files], called="sbsign")
        runner.run(["sbverify", "--cert", signing.certificate, signed])
    except CommandError as error:
        signed.unlink(missing_ok=True)
        fact = f"{_WHERE}: {program.name} is not signed\n{error.what}"
        raise UserError(fact, hint="the key must be that of the certificate") from None
    signed.replace(program)


def lay_enrolment(signing: BootSigning, esp: Path) -> None:
    """Put the enrolment files onto the ESP, and when they are taken into loader.conf(5)."""
    if not signing.files:
        return
    place = esp / _PLACE
    place.mkdir(parents=True)
    for path in signing.files:
        shutil.copyfile(path, place / path.name)
    with (esp / "loader/loader.conf").open("a") as conf:
        conf.write(f"secure-boot-enroll {signing.enrolment}\n")


def signatures_of(runner: Runner, image: Path, manifest: Manifest, work: Path) -> dict[str, Path]:
    """Return the signatures of a finished image, by the programs' names, as files in `work`.

    The boot loader's lies on the disk image: it is left out where that is not there.
    """
    work.mkdir()
    programs = {UKI: image / UKI}
    esp = next(one for one in manifest.disk.partitions if one.type == "esp")
    if (disk := image / manifest.disk.name).is_file():
        programs[LOADER] = work / LOADER
        runner.run(["mcopy", "-i", f"{disk}@@{esp.offset}", f"::{_ON_ESP}", work / LOADER])
    found = {}
    for name, path in programs.items():
        target = work / f"{name}.signature"
        runner.run(["sbattach", "--detach", target, path], ok=(0, 1))  # 1: there is none
        if target.is_file():
            found[name] = target
    return found


_MAKE = "imgbuild keys secure-boot makes keys, certificates and enrolment files"


def _file(sites: Path, key: str, name: str) -> Path:
    path = sites / name
    if not path.is_file():
        raise UserError(f"{_WHERE}.{key}: {path}: there is no such file", hint=_MAKE)
    return path


def _is_pkcs11(key: str) -> bool:
    return key.startswith(PKCS11)


def _asked(runner: Runner, key: str, words: list[str], hint: str) -> str:
    try:
        return runner.run(["openssl", *words]).stdout
    except CommandError as error:
        raise UserError(f"{_WHERE}.{key}: cannot be read: {_first(error)}", hint=hint) from None


def _first(error: CommandError) -> str:
    """Return what openssl says for people; its further lines are for its makers."""
    return next(iter(error.output.splitlines()), error.status)


def _public(text: str) -> str:
    found = _PEM.search(text)
    return found[0] if found else ""

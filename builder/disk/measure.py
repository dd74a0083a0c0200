"""PCR signatures: what a TPM will have measured of a kernel image, signed before it ever boots.

systemd-stub measures the sections of a UKI into PCR 11, systemd-pcrphase how far a boot has come.
ukify tells what becomes of it; we sign it on the build host, so that the key, or the way to the
device that holds it, stays there. What systemd reads: systemd-measure(1).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.gpg import need_programs
from builder.core.hashing import sha256_file
from builder.core.process import CommandError, Runner
from builder.model.site import Site
from builder.model.spec import Spec

SECTION = ".pcrsig"
_PKCS11 = "pkcs11:"
_PCR, _BANK = 11, "sha256"
_WHERE = "site: pcr_key"
_MAKE = "imgbuild keys pcr makes key and public key"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_VALUE = re.compile(rf"^{_PCR}:{_BANK}=([0-9a-f]{{64}})$", re.MULTILINE)
_PHASES = 4  # enter-initrd, leave-initrd, sysinit, ready: systemd-pcrphase.service(8)
# TPM 2.0 Library, parts 2 and 3: TPM2_PolicyPCR over a list of one selection.
_POLICY_PCR = bytes.fromhex("0000017f")
_SELECTION = bytes.fromhex("00000001 000b 03") + (1 << _PCR).to_bytes(3, "little")


@dataclass(frozen=True)
class PcrSigning:
    """The site's key pair: a file or a pkcs11: address, and a file.

    With `made`, a signature that was made before, nothing is signed.
    """

    key: str
    public_key: Path
    made: Path | None = None

    def digests(self) -> list[str]:
        """Return what the image depends on: the public key stands for its key."""
        return [sha256_file(self.public_key)]


def pcr_signing(sites: Path, site: Site) -> PcrSigning | None:
    """Return how the site signs, None where it does not. Raises UserError for a missing file."""
    if (said := site.pcr_key) is None:
        return None
    key = said.key if said.key.startswith(_PKCS11) else str(sites / said.key)
    return PcrSigning(key, _file("public_key", sites / said.public_key))


def check_pcr_signing(context: Context, spec: Spec, signing: PcrSigning | None) -> None:
    """Look at the site's key, and at what an encrypted `var` needs, before anything is built.

    Raises UserError for missing programs, for a key that cannot be read, is not RSA-2048 (not
    every TPM knows another) or not that of the public key; and for a profile that the site cannot
    serve.
    """
    if spec.profile.disk.encrypt_var:
        _check_encryption(spec)
    if signing is None:
        return
    need_programs("openssl")
    wanted = _asked(context.runner, "public_key", ["-pubin", "-in", str(signing.public_key)])
    if "(2048 bit)" not in wanted or "Modulus:" not in wanted:
        raise UserError(f"{_WHERE}.public_key: is not of RSA-2048", hint=_MAKE)
    if signing.made is not None:
        return
    if not signing.key.startswith(_PKCS11):
        _file("key", Path(signing.key))
    found = _asked(context.runner, "key", [*_engine(signing, "-inform"), "-in", signing.key])
    if _public(found) != _public(wanted):
        fact = f"{_WHERE}: {signing.public_key} is the public key of another key"
        raise UserError(fact, hint="name the pair that imgbuild keys pcr made")


def _check_encryption(spec: Spec) -> None:
    """See that a node could make its encrypted `var`, and fill it."""
    where = f"profile {spec.profile_name}: disk.encrypt_var"
    if spec.site.pcr_key is None:
        fact = f"{where}: site {spec.site_name} has no pcr_key, by which a TPM knows its images"
        raise UserError(fact, hint=_MAKE)
    if (spec.profile.container or spec.profile.models) and not spec.site.releases:
        fact = f"{where}: a node makes var itself and fetches its layers into it, but site "
        fact += f"{spec.site_name} has no releases to fetch them from"
        raise UserError(fact, hint="name the release server as releases of the site")


def pcr_signature_of(runner: Runner, uki: Path, target: Path) -> dict[str, Path]:
    """Return the signature that a finished kernel image carries, by its section; as a file."""
    runner.run(["objcopy", "--output-target=binary", f"--only-section={SECTION}", uki, target])
    text = target.read_bytes().rstrip(b"\0")
    target.write_bytes(text)
    return {SECTION: target} if text else {}


def read_measured(told: str) -> list[str]:
    """Return PCR 11 as each phase of a boot finds it, from what ukify(1) tells of a build."""
    found = _VALUE.findall(told)
    if len(found) != _PHASES:
        raise UserError(
            f"ukify told {len(found)} measurements, not {_PHASES}", hint=f"all:\n{told}"
        )
    return [str(value) for value in found]


def sign_measured(runner: Runner, signing: PcrSigning, measured: Sequence[str], work: Path) -> str:
    """Return signatures of PCR 11 in each phase, as JSON for systemd-stub(7).

    RSA PKCS #1 v1.5: the same values and key give the same text. Raises UserError when that
    fails, or the public key does not take a signature, those that were made before included.
    """
    policies = [_policy(bytes.fromhex(value)) for value in measured]
    own = [_entry(runner, signing, policy, work) for policy in policies] if not signing.made else []
    text = signing.made.read_text() if signing.made else json.dumps({_BANK: own})
    try:
        entries = {one["pol"]: base64.b64decode(one["sig"]) for one in json.loads(text)[_BANK]}
        signatures = [entries[policy.hex()] for policy in policies]
    except (ValueError, KeyError, TypeError) as error:
        fact = f"{SECTION}: is no signature of what was built again: {error!r}"
        raise UserError(fact, hint="the image was built from something else") from None
    for policy, signature in zip(policies, signatures, strict=True):
        _verify(runner, signing, policy, signature, work)
    return text


def _entry(runner: Runner, signing: PcrSigning, policy: bytes, work: Path) -> dict[str, Any]:
    signature = _sign(runner, signing, policy, work)
    return {
        "pcrs": [_PCR],
        "pkfp": _fingerprint(runner, signing, work),
        "pol": policy.hex(),
        "sig": base64.b64encode(signature).decode(),
    }


def _policy(value: bytes) -> bytes:
    """Return the digest of the policy that PCR 11 has a value (TPM 2.0 Library, part 3, 23.7)."""
    selected = hashlib.sha256(value).digest()
    return hashlib.sha256(bytes(32) + _POLICY_PCR + _SELECTION + selected).digest()


def _sign(runner: Runner, signing: PcrSigning, policy: bytes, work: Path) -> bytes:
    data, signature = work / "policy", work / "signature"
    data.write_bytes(policy)
    words: list[str | Path] = [*_engine(signing, "-keyform"), "-sign", signing.key]
    try:
        runner.run(["openssl", "dgst", "-sha256", *words, "-out", signature, data])
    except CommandError as error:
        raise UserError(f"{_WHERE}.key: does not sign: {_first(error)}", hint=_MAKE) from None
    return signature.read_bytes()


def _verify(
    runner: Runner, signing: PcrSigning, policy: bytes, signature: bytes, work: Path
) -> None:
    data, file = work / "policy", work / "signature"
    data.write_bytes(policy)
    file.write_bytes(signature)
    words: list[str | Path] = ["-verify", signing.public_key, "-signature", file, data]
    try:
        runner.run(["openssl", "dgst", "-sha256", *words])
    except CommandError:
        fact = f"{_WHERE}: {signing.public_key} does not take the signature of the kernel image"
        raise UserError(fact, hint="the key must be that of the public key") from None


def _fingerprint(runner: Runner, signing: PcrSigning, work: Path) -> str:
    """Return how systemd names a key: SHA-256 of its PKCS #1 form."""
    der = work / "public.der"
    words: list[str | Path] = ["-pubin", "-in", signing.public_key, "-RSAPublicKey_out"]
    runner.run(["openssl", "rsa", *words, "-outform", "DER", "-out", der])
    return sha256_file(der)


def _asked(runner: Runner, key: str, words: list[str]) -> str:
    try:
        return runner.run(["openssl", "pkey", *words, "-pubout", "-text_pub"]).stdout
    except CommandError as error:
        fact = f"{_WHERE}.{key}: cannot be read: {_first(error)}"
        raise UserError(fact, hint="give PEM without a passphrase, or a pkcs11: address") from None


def _engine(signing: PcrSigning, form: str) -> list[str]:
    return ["-engine", "pkcs11", form, "engine"] if signing.key.startswith(_PKCS11) else []


def _file(key: str, path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{_WHERE}.{key}: {path}: there is no such file", hint=_MAKE)
    return path


def _first(error: CommandError) -> str:
    return next(iter(error.output.splitlines()), error.status)


def _public(text: str) -> str:
    found = _PEM.search(text)
    return found[0] if found else ""

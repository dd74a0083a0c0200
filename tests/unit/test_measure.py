"""PCR signatures: as systemd makes them, the same each time; what sites and profiles may say."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from builder.bootkeys.make import new_pcr_key
from builder.core.errors import UserError
from builder.core.process import Runner
from builder.disk.measure import (
    SECTION,
    PcrSigning,
    check_pcr_signing,
    pcr_signing,
    read_measured,
    sign_measured,
)
from builder.model.profile import Disk
from builder.model.site import Site
from builder.model.spec import Spec
from tests.unit.fakes import context, site, spec

# What systemd-measure 252 signed for a kernel image of a few bytes, with swtpm as its TPM.
VALUES = [
    "ee3709ac325adde92ad1a72f2a03b5a5a04b78762493c548ae64411e70abd404",
    "1c65877d3ad5c489f34790a78cfd43a170cc02ad22c9cf09fa1a29d9596fb271",
]
POLICIES = [
    "f452f08d2f2a54a50fe936c16a40130ca70a6f01ca5e7074bd150a364bf6991c",
    "73fdbf7df266f7a9e725864483612efbada5e2796267a3292d9ef5e4a03d87de",
]
FINGERPRINT = "0211e031377fe739bcd4aae9c54301aadf90f8679b5a16ec41a1d11a8c214e0f"
PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvuDnL1Nxh+Q84Xj+YGEs
nm6KWCa2Z3uB4q0z3bedyIrqjTgR/42HIhRy/Otya1l1dFwd1EKrjwr33ElS7SlM
okF6MgXuFxCUzx4AQ0tUJw5iNWZqin4E+qNzVfmhRL8Jy9wugJZL8T3KAQHcFSzY
bArZPJWqrEAenJs/tm25BD2mgd2Ia40O/UTuA7uLI40Tw2AIoCwml5esnCZyLWcW
7QGVanfrVqL5ogCObMtR5CVTkLSxIjeJmfRDx48hNHbBmown14/ptBmdf8XMTAGq
0YVLgAkiz4xX0TLvxXYp1Sx6iq9SgClzb4xKHTasW1Dd5I67l0SpvLI8HrVeNbCs
9wIDAQAB
-----END PUBLIC KEY-----
"""
SIGNATURE = (
    "DkZNXH8MCElcnIYR2CcdMcH/8vA6/zkmVEgFENpd9fVNexcfbIkzfzPOj+Bt9UW2Rfu43rXrM0H/m5IBNOQcaSWQedrL"
    "wVXEYoaOhzuBFeUBg+58lvWoWafDp5xB/4CV+TXyA7gILb9umjRppujJuk3+4pFx2ZEBTONs8d289mQYSWFm8+0MZ9wq"
    "OcnO3v4lg4y7yk6ONC+Cmlhexhpw6e6A3mHBklkvhgJUXPYkLqIcikmzxnNnK66UVbUqOnDFO7WDvcOv3GaN4L2rVIbQ"
    "HwbFWsBi6LYiWNMZRWr/QbvLUZtXDdczvOyZ4iGCoLHBznh/ZRQxCg57YYJGWH0wbw=="
)
TOLD = (
    "\n".join(f"11:sha256={value}" for value in (*VALUES, *VALUES)) + "\nWrote unsigned uki.efi\n"
)
openssl = pytest.mark.allow_commands("openssl")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Give a folder with a new key."""
    new_pcr_key(context(tmp_path / "project", Runner()), tmp_path / "keys")
    return tmp_path / "keys"


def said(folder: Path, **changes: Any) -> Site:  # noqa: ANN401 - any key of the model
    values = {"key": f"{folder}/pcr.key", "public_key": f"{folder}/pcr.pub", **changes}
    return site(pcr_key=values)


def by(folder: Path, **changes: Any) -> PcrSigning:  # noqa: ANN401
    found = pcr_signing(folder, said(folder, **changes))
    assert found
    return found


def sealed_spec(**changes: Any) -> Spec:  # noqa: ANN401
    plain = spec()
    disk = plain.profile.disk.model_copy(update={"encrypt_var": "tpm"})
    more = {"disk": disk, **changes.pop("profile", {})}
    return plain.model_copy(
        update={"profile": plain.profile.model_copy(update=more), **changes},
    )


@openssl
def test_a_new_key_is_private_and_never_overwritten(keys: Path, tmp_path: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in keys.iterdir()}
    assert modes == {"pcr.key": 0o600, "pcr.pub": 0o644}
    room = context(tmp_path / "project", Runner())
    with pytest.raises(UserError, match=r"pcr\.key: is there already"):
        new_pcr_key(room, keys)
    with pytest.raises(UserError, match="where a private key must never be"):
        new_pcr_key(room, tmp_path / "project/config")


@openssl
def test_it_is_what_systemd_itself_signs(tmp_path: Path) -> None:
    """Taken from systemd-measure: policies, name of the key, and a signature that it made."""
    (tmp_path / "pcr.pub").write_text(PUBLIC_KEY)
    entry = {"pcrs": [11], "pkfp": FINGERPRINT, "pol": POLICIES[0], "sig": SIGNATURE}
    (tmp_path / "made").write_text(json.dumps({"sha256": [entry]}))
    theirs = PcrSigning("", tmp_path / "pcr.pub", tmp_path / "made")
    text = sign_measured(Runner(), theirs, VALUES[:1], tmp_path)
    assert text == (tmp_path / "made").read_text()


@openssl
def test_one_key_and_one_image_give_one_signature(keys: Path, tmp_path: Path) -> None:
    one, two = (sign_measured(Runner(), by(keys), VALUES, tmp_path) for _ in range(2))
    assert one == two
    entries = json.loads(one)["sha256"]
    assert [entry["pol"] for entry in entries] == POLICIES
    assert {tuple(entry["pcrs"]) for entry in entries} == {(11,)}
    der = tmp_path / "der"
    words: list[str | Path] = ["-pubin", "-in", keys / "pcr.pub", "-RSAPublicKey_out", "-outform"]
    Runner().run(["openssl", "rsa", *words, "DER", "-out", der])
    assert {entry["pkfp"] for entry in entries} == {hashlib.sha256(der.read_bytes()).hexdigest()}


@openssl
def test_what_was_signed_before_must_be_of_this_image_and_key(keys: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_text(sign_measured(Runner(), by(keys), VALUES, tmp_path))
    again = PcrSigning("/nowhere", keys / "pcr.pub", made)
    assert sign_measured(Runner(), again, VALUES, tmp_path) == made.read_text()
    with pytest.raises(UserError, match="is no signature of what was built again"):
        sign_measured(Runner(), again, ["00" * 32], tmp_path)
    entries = json.loads(made.read_text())
    entries["sha256"][0]["sig"] = base64.b64encode(b"another").decode()
    made.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"pcr\.pub does not take the signature"):
        sign_measured(Runner(), again, VALUES, tmp_path)
    made.write_text("nothing")
    with pytest.raises(UserError, match=f"{SECTION}: is no signature"):
        sign_measured(Runner(), again, VALUES, tmp_path)


def test_measurements_are_read_from_what_ukify_tells() -> None:
    assert read_measured(TOLD) == [*VALUES, *VALUES]
    with pytest.raises(UserError, match="told 0 measurements, not 4"):
        read_measured("Wrote unsigned uki.efi\n")


@openssl
def test_a_good_pair_is_taken_and_another_refused(keys: Path, tmp_path: Path) -> None:
    room = context(tmp_path / "project", Runner())
    check_pcr_signing(room, spec(), None)
    check_pcr_signing(room, spec(), by(keys))
    other = new_pcr_key(room, tmp_path / "other").folder
    with pytest.raises(UserError, match=r"pcr\.pub is the public key of another key"):
        check_pcr_signing(room, spec(), by(keys, key=f"{other}/pcr.key"))
    with pytest.raises(UserError, match=r"pcr_key\.public_key: cannot be read") as caught:
        check_pcr_signing(room, spec(), by(keys, public_key=f"{keys}/pcr.key"))
    assert "PEM without a passphrase" in str(caught.value.hint)
    with pytest.raises(UserError, match=r"pcr_key\.key: .*nowhere: there is no such file"):
        check_pcr_signing(room, spec(), by(keys, key="nowhere"))


@openssl
def test_only_rsa_2048_is_taken(keys: Path, tmp_path: Path) -> None:
    """Not every TPM knows longer keys; other kinds sign differently each time."""
    room, key = context(tmp_path / "project", Runner()), tmp_path / "long.key"
    words = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]
    Runner().run(["openssl", *words, "-out", key])
    Runner().run(["openssl", "pkey", "-in", key, "-pubout", "-out", tmp_path / "long.pub"])
    with pytest.raises(UserError, match=r"public_key: is not of RSA-2048"):
        check_pcr_signing(room, spec(), by(keys, key=str(key), public_key=f"{tmp_path}/long.pub"))


def test_an_encrypted_var_needs_a_key_and_somewhere_to_fetch_layers(tmp_path: Path) -> None:
    room = context(tmp_path)
    with pytest.raises(UserError, match=r"profile cpu: disk\.encrypt_var: site debian has no pcr"):
        check_pcr_signing(room, sealed_spec(), None)
    known = said(tmp_path)
    check_pcr_signing(room, sealed_spec(site=known), None)
    serving = sealed_spec(site=known, profile={"container": "recipe:vllm-cpu"})
    with pytest.raises(UserError, match="no releases to fetch them from"):
        check_pcr_signing(room, serving, None)
    there = known.model_copy(update={"releases": "http://releases.example.net"})
    check_pcr_signing(room, serving.model_copy(update={"site": there}), None)


@openssl
def test_the_image_depends_on_the_public_key_alone(keys: Path, tmp_path: Path) -> None:
    seen = by(keys).digests()
    assert by(keys, key="pkcs11:object=pcr").digests() == seen
    other = new_pcr_key(context(tmp_path / "project", Runner()), tmp_path / "other").folder
    assert by(other).digests() != seen
    with pytest.raises(UserError, match=r"pcr_key\.public_key: .*there is no such file"):
        by(keys, public_key="nowhere")


def test_unset_keys_leave_no_trace() -> None:
    """The name of an image is a digest of its site and profile."""
    assert "pcr_key" not in site().model_dump(mode="json")
    assert "encrypt_var" not in spec().profile.model_dump(mode="json")["disk"]
    assert spec().overlays == ("base",)
    assert sealed_spec().profile.model_dump()["disk"]["encrypt_var"] == "tpm"
    assert sealed_spec().overlays == ("base", "encryption")
    assert Disk.model_validate(spec().profile.disk.model_dump()) == spec().profile.disk
    with pytest.raises(ValueError, match="encrypt_var"):
        Disk.model_validate({**spec().profile.disk.model_dump(), "encrypt_var": "yes"})

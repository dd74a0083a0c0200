"""Secure Boot: keys, signatures that are the same each time, and what a site may say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builder.bootkeys.make import new_boot_keys
from builder.core.errors import UserError
from builder.core.process import Runner
from builder.disk.secureboot import (
    BootSigning,
    boot_signing,
    check_boot_signing,
    lay_enrolment,
    sign_program,
)
from builder.model.site import Site
from tests.unit.driver_parts import gpu_spec
from tests.unit.fakes import EPOCH, context, site, spec

HELLO = Path("/usr/lib/efitools/x86_64-linux-gnu/HelloWorld.efi")
FILES = [f"{role}.{end}" for role in ("KEK", "PK", "db") for end in ("auth", "crt", "key")]
making = pytest.mark.allow_commands("openssl", "cert-to-efi-sig-list", "sign-efi-sig-list")
signing = pytest.mark.allow_commands(
    "openssl", "cert-to-efi-sig-list", "sign-efi-sig-list", "faketime", "sbverify"
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Give a folder with new keys."""
    folder = tmp_path / "keys"
    new_boot_keys(context(tmp_path / "project", Runner()), folder, "test", [])
    return folder


def said(folder: Path, **changes: Any) -> Site:  # noqa: ANN401 - any key of the model
    values = {"key": f"{folder}/db.key", "certificate": f"{folder}/db.crt", "enrol": str(folder)}
    return site(secure_boot={**values, **changes})


def signed_by(folder: Path, tmp_path: Path, **changes: Any) -> BootSigning:  # noqa: ANN401
    found = boot_signing(tmp_path, said(folder, **changes))
    assert found
    return found


@making
def test_new_keys_are_whole_and_private(keys: Path) -> None:
    assert sorted(path.name for path in keys.iterdir()) == FILES
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in keys.iterdir()}
    assert modes == {".auth": 0o644, ".crt": 0o644, ".key": 0o600}


@making
def test_an_enrolment_file_says_when_and_is_signed(keys: Path) -> None:
    """EFI_VARIABLE_AUTHENTICATION_2 (UEFI 2.10, 8.2.2): EFI_TIME, then a certificate."""
    for name in ("PK", "KEK", "db"):
        data = (keys / f"{name}.auth").read_bytes()
        assert int.from_bytes(data[:2], "little") == datetime.now(UTC).year
        assert int.from_bytes(data[22:24], "little") == 0x0EF1  # WIN_CERT_TYPE_EFI_GUID


@making
def test_keys_are_never_overwritten(keys: Path, tmp_path: Path) -> None:
    before = (keys / "db.key").read_bytes()
    with pytest.raises(UserError, match=r"PK\.auth: is there already"):
        new_boot_keys(context(tmp_path / "project", Runner()), keys, "test", [])
    assert (keys / "db.key").read_bytes() == before


def test_keys_do_not_go_into_the_project(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="where a private key must never be"):
        new_boot_keys(context(tmp_path), tmp_path / "config", "test", [])
    with pytest.raises(UserError, match="is no name for keys"):
        new_boot_keys(context(tmp_path / "x"), tmp_path / "keys", "a/CN=b", [])


@making
def test_db_may_believe_another_certificate(keys: Path, tmp_path: Path) -> None:
    room = context(tmp_path / "project", Runner())
    both = new_boot_keys(room, tmp_path / "both", "test", [keys / "db.crt"]).folder
    more = (both / "db.auth").stat().st_size - (keys / "db.auth").stat().st_size
    assert more > 700  # one more certificate of RSA-2048
    (tmp_path / "text").write_text("no certificate\n")
    with pytest.raises(UserError, match="text: is no certificate: Could not read"):
        new_boot_keys(room, tmp_path / "third", "test", [tmp_path / "text"])
    assert list((tmp_path / "third").iterdir()) == []


@signing
def test_one_program_and_one_key_give_one_signature(keys: Path, tmp_path: Path) -> None:
    found, runner, made = signed_by(keys, tmp_path), Runner(), []
    for name in ("one", "two"):
        program = tmp_path / name
        program.write_bytes(HELLO.read_bytes())
        sign_program(runner, found, program, EPOCH)
        runner.run(["sbverify", "--cert", keys / "db.crt", program])
        made.append(program.read_bytes())
    assert made[0] == made[1] != HELLO.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["one", "two"]


@signing
def test_another_time_is_another_signature(keys: Path, tmp_path: Path) -> None:
    """What the test before finds equal really holds the time: the image's, not the clock's."""
    found, made = signed_by(keys, tmp_path), []
    for epoch in (EPOCH, EPOCH + 1):
        program = tmp_path / str(epoch)
        program.write_bytes(HELLO.read_bytes())
        sign_program(Runner(), found, program, epoch)
        made.append(program.read_bytes())
    assert made[0] != made[1]


@signing
def test_a_good_pair_is_taken_and_another_refused(keys: Path, tmp_path: Path) -> None:
    room = context(tmp_path / "project", Runner())
    check_boot_signing(room, spec(), None)
    check_boot_signing(room, spec(), signed_by(keys, tmp_path))
    with pytest.raises(UserError, match=r"KEK\.crt is the certificate of another key"):
        check_boot_signing(room, spec(), signed_by(keys, tmp_path, certificate=f"{keys}/KEK.crt"))
    with pytest.raises(UserError, match=r"secure_boot\.certificate: cannot be read"):
        check_boot_signing(room, spec(), signed_by(keys, tmp_path, certificate=f"{keys}/db.key"))
    with pytest.raises(UserError, match=r"secure_boot\.key: cannot be read") as caught:
        check_boot_signing(room, spec(), signed_by(keys, tmp_path, key=f"{keys}/db.crt"))
    assert "without a passphrase" in str(caught.value.hint)


def test_gpus_need_signed_modules(tmp_path: Path) -> None:
    for name in ("db.key", "db.crt", "PK.auth", "KEK.auth", "db.auth"):
        (tmp_path / name).write_text(name)
    gpus = gpu_spec({"devices": ["10de:20b2"]})
    with pytest.raises(UserError, match="secure_boot without module_key") as caught:
        check_boot_signing(context(tmp_path), gpus, signed_by(tmp_path, tmp_path))
    assert "as module_key, too" in str(caught.value.hint)


@signing
def test_an_elliptic_key_is_refused(keys: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "ec.key", tmp_path / "ec.crt"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files: list[str | Path] = ["-subj", "/CN=x", "-keyout", key, "-out", certificate]
    Runner().run(["openssl", *words, *files])
    found = signed_by(keys, tmp_path, key=str(key), certificate=str(certificate))
    with pytest.raises(UserError, match="is no RSA key"):
        check_boot_signing(context(tmp_path / "project", Runner()), spec(), found)


@signing
def test_what_is_no_program_is_not_signed(keys: Path, tmp_path: Path) -> None:
    program = tmp_path / "uki.efi"
    program.write_text("no program\n")
    with pytest.raises(UserError, match=r"uki\.efi is not signed"):
        sign_program(Runner(), signed_by(keys, tmp_path), program, EPOCH)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"secure_boot\.certificate: .*db\.crt: there is no") as e:
        boot_signing(tmp_path, said(tmp_path))
    assert "imgbuild keys secure-boot" in str(e.value.hint)
    for name in ("db.crt", "PK.auth", "KEK.auth"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"secure_boot\.enrol: .*db\.auth"):
        boot_signing(tmp_path, said(tmp_path))
    found = signed_by(tmp_path, tmp_path, key="pkcs11:object=db", enrol=None)
    assert (found.key, found.files) == ("pkcs11:object=db", ())
    with pytest.raises(UserError, match=r"secure_boot\.key: .*db\.key: there is no such file"):
        check_boot_signing(context(tmp_path), spec(), signed_by(tmp_path, tmp_path, enrol=None))


def test_the_image_depends_on_certificate_and_enrolment(tmp_path: Path) -> None:
    for name in ("db.key", "db.crt", "PK.auth", "KEK.auth", "db.auth"):
        (tmp_path / name).write_text(name)
    seen = [signed_by(tmp_path, tmp_path).digests()]
    seen.append(signed_by(tmp_path, tmp_path, enrolment="force").digests())
    seen.append(signed_by(tmp_path, tmp_path, enrol=None).digests())
    for name in ("db.crt", "KEK.auth"):
        (tmp_path / name).write_text("other")
        seen.append(signed_by(tmp_path, tmp_path).digests())
    assert len({str(one) for one in seen}) == len(seen)


def test_the_esp_gets_keys_and_when_they_are_taken(tmp_path: Path) -> None:
    for name in ("db.key", "db.crt", "PK.auth", "KEK.auth", "db.auth"):
        (tmp_path / name).write_text(name)
    conf = tmp_path / "esp/loader/loader.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("timeout 0\n")
    lay_enrolment(signed_by(tmp_path, tmp_path, enrol=None), tmp_path / "esp")
    assert conf.read_text() == "timeout 0\n"
    lay_enrolment(signed_by(tmp_path, tmp_path), tmp_path / "esp")
    assert conf.read_text() == "timeout 0\nsecure-boot-enroll manual\n"
    laid = sorted(path.name for path in (tmp_path / "esp/loader/keys/auto").iterdir())
    assert laid == ["KEK.auth", "PK.auth", "db.auth"]


def test_a_site_without_it_is_as_before() -> None:
    """The name of an image is a digest of its site: an unset key must not change it."""
    assert "secure_boot" not in site().model_dump(mode="json")
    assert "secure_boot" not in spec().model_dump(mode="json")["site"]
    with_it = site(secure_boot={"key": "k", "certificate": "c"}).model_dump(mode="json")
    assert with_it["secure_boot"]["enrolment"] == "manual"
    assert Site.model_validate(site().model_dump()) == site()

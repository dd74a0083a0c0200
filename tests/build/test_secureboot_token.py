"""The keys of db and of TPMs in a token: SoftHSM by PKCS#11, openssl's engine, sbsign."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder.bootkeys.make import new_boot_keys, new_pcr_key
from builder.core import process
from builder.core.errors import UserError
from builder.core.process import Runner
from builder.disk.measure import PcrSigning, check_pcr_signing, sign_measured
from builder.disk.secureboot import BootSigning, check_boot_signing, sign_program
from tests.unit.fakes import EPOCH, context, spec

HELLO = Path("/usr/lib/efitools/x86_64-linux-gnu/HelloWorld.efi")
PIN = "1234"
ADDRESS = "pkcs11:token=boot;object=db;type=private;pin-source=file:{}"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give keys that are in a token, too, as db and pcr; `pin` is the token's."""
    folder = new_boot_keys(context(tmp_path / "x", Runner()), tmp_path / "keys", "x", []).folder
    conf = tmp_path / "softhsm.conf"
    (tmp_path / "tokens").mkdir()
    conf.write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    # Real devices are known to p11-kit by the system's configuration.
    monkeypatch.setitem(process._ENV, "SOFTHSM2_CONF", str(conf))
    token = ["--label", "boot", "--pin", PIN, "--so-pin", PIN]
    _softhsm(conf, "--init-token", "--free", *token)
    own = ["--token", "boot", "--pin", PIN, "--label", "db", "--id", "01"]
    _softhsm(conf, "--import", str(folder / "db.key"), *own)
    new_pcr_key(context(tmp_path / "x", Runner()), folder)
    own = ["--token", "boot", "--pin", PIN, "--label", "pcr", "--id", "02"]
    _softhsm(conf, "--import", str(folder / "pcr.key"), *own)
    (folder / "pin").write_text(PIN)
    return folder


def _softhsm(conf: Path, *words: str) -> None:
    env = {"SOFTHSM2_CONF": str(conf), "PATH": "/usr/bin"}
    subprocess.run(["softhsm2-util", *words], env=env, check=True, capture_output=True)


def signed(keys: Path, key: str, target: Path) -> bytes:
    target.write_bytes(HELLO.read_bytes())
    signing = BootSigning(key, keys / "db.crt", (), "manual")
    check_boot_signing(context(keys, Runner()), spec(), signing)
    sign_program(Runner(), signing, target, EPOCH)
    return target.read_bytes()


def test_a_token_signs_the_same_bytes_as_a_file(keys: Path, tmp_path: Path) -> None:
    by_token = signed(keys, ADDRESS.format(keys / "pin"), tmp_path / "one.efi")
    assert by_token == signed(keys, str(keys / "db.key"), tmp_path / "two.efi")


def test_a_token_signs_measurements_as_a_file_does(keys: Path, tmp_path: Path) -> None:
    told = []
    for key in (ADDRESS.replace("=db;", "=pcr;").format(keys / "pin"), str(keys / "pcr.key")):
        signing = PcrSigning(key, keys / "pcr.pub")
        check_pcr_signing(context(keys, Runner()), spec(), signing)
        told.append(sign_measured(Runner(), signing, ["ab" * 32], tmp_path))
    assert told[0] == told[1]


def test_a_wrong_pin_and_a_key_that_is_not_there(keys: Path, tmp_path: Path) -> None:
    (keys / "wrong").write_text("4321")
    for key in (ADDRESS.format(keys / "wrong"), "pkcs11:token=boot;object=none;pin-value=1234"):
        with pytest.raises(UserError, match=r"secure_boot\.key: cannot be read") as caught:
            signed(keys, key, tmp_path / "one.efi")
        assert "pkcs11: address with its PIN" in str(caught.value.hint)

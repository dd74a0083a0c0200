"""A key that never leaves its token: SoftHSM by PKCS#11, gnupg-pkcs11-scd, gpg-agent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.press import STABLE, Press, press, printed

__all__ = ["press", "printed"]

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "1234"
PINENTRY = f"""#!/bin/sh
echo OK
while read -r line; do
    case $line in
        GETPIN*) echo "D {PIN}"; echo OK ;;
        BYE*) echo OK; exit ;;
        *) echo OK ;;
    esac
done
"""
AGENT = "scdaemon-program /usr/bin/gnupg-pkcs11-scd\npinentry-program {home}/pinentry\n"
KEY = """\
Key-Type: RSA
Key-Grip: {grip}
Key-Usage: sign
Name-Real: token
Expire-Date: 0
%commit
"""


@pytest.fixture
def token() -> Iterator[Path]:
    """A gpg home whose agent reaches a token with one key; gpg knows that key."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # a short path: sockets have 108 characters
    try:
        _fill_token(home)
        _make_key(home)
        yield home
    finally:
        _run(home, "gpgconf", "--kill", "all")
        shutil.rmtree(home, ignore_errors=True)


def _fill_token(home: Path) -> None:
    (home / "tokens").mkdir()
    (home / "softhsm.conf").write_text(f"directories.tokendir = {home}/tokens\n")
    own = ("--token", "release", "--pin", PIN)
    _run(home, "softhsm2-util", "--init-token", "--free", "--label", "release", "--pin", PIN,
         "--so-pin", PIN)  # fmt: skip
    _run(home, "openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-keyout", "key.pem",
         "-out", "cert.der", "-outform", "der", "-subj", "/CN=release")  # fmt: skip
    _run(home, "softhsm2-util", "--import", "key.pem", *own, "--label", "release", "--id", "01")
    _run(home, "pkcs11-tool", "--module", MODULE, "--token-label", "release", "--login", "--pin",
         PIN, "--write-object", "cert.der", "--type", "cert", "--id", "01")  # fmt: skip
    (home / "key.pem").unlink()


def _make_key(home: Path) -> None:
    (home / "gnupg-pkcs11-scd.conf").write_text(f"providers p\nprovider-p-library {MODULE}\n")
    (home / "gpg-agent.conf").write_text(AGENT.format(home=home))
    (home / "pinentry").write_text(PINENTRY)
    (home / "pinentry").chmod(0o755)
    learnt = _run(home, "gpg-connect-agent", "SCD LEARN", "LEARN", "/bye")
    grip = re.findall(r"KEYPAIRINFO ([0-9A-F]{40})", learnt)[0]
    (home / "parameters").write_text(KEY.format(grip=grip))
    _run(home, "gpg", "--batch", "--generate-key", "parameters")


def _run(home: Path, *words: str) -> str:
    env = {"GNUPGHOME": str(home), "SOFTHSM2_CONF": str(home / "softhsm.conf")}
    done = subprocess.run(
        words, cwd=home, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_token_signs(press: Press, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = _run(token, "gpg", "--list-secret-keys", "--with-colons")
    fingerprint = re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[0]
    _run(token, "gpg", "--output", str(press.public("token")), "--export", fingerprint)
    monkeypatch.setenv("GNUPGHOME", str(token))
    words = list(press.words("1.2", *STABLE))
    words[words.index("--key") + 1] = f"gpg:{fingerprint}"
    press.place.run(*words).done()
    assert press.verify("--channel", "imgbuild-tiny/stable", key="token") == []

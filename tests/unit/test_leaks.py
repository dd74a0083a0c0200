"""The search for credentials in an image's files finds them, and little else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.build.leaks import _CHUNK, CREDENTIALS, leaks, search

# Put together here, so that no scanner takes this file for one that holds secrets.
BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
PLANTED = [
    f"-----{'BEGIN'} PRIVATE KEY-----\n{BODY}",
    f"-----{'BEGIN'} OPENSSH PRIVATE KEY-----\n{BODY}",
    "AKIA" + "A1B2" * 4,
    "ghp" + "_" + "a1B2c3" * 6,
    "hf" + "_" + "a" * 34,
    "glpat" + "-" + "a" * 20,
    "https" + "://joe:s3cr3ts@mirror.example.org/debian",
]
HARMLESS = [
    f"-----{'BEGIN'} PRIVATE KEY-----\\n",
    f"-----{'BEGIN'} CERTIFICATE-----\n{BODY}",
    "https://user:password@host.example.org",
    "https://mirror.example.org:8080/debian@1",
    "hf_hub_download",
]


@pytest.mark.parametrize("text", PLANTED)
def test_a_credential_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "uki.efi").write_bytes(b"\0" * 9 + text.encode() + b"\0")
    assert len(leaks(tmp_path, [], tmp_path)) == 1


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_is_not(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(f"x {text} y")
    assert leaks(tmp_path, ["/home/builder/imgbuild"], tmp_path) == []


def test_words_of_the_host_are_found_in_any_file_but_the_disk(tmp_path: Path) -> None:
    for name in ("manifest.json", "initrd.cpio", "disk.raw"):
        (tmp_path / name).write_text("x=/home/builder/imgbuild/.cache")
    found = leaks(tmp_path, ["/home/builder/imgbuild"], tmp_path)
    assert found == [
        "initrd.cpio: /home/builder/imgbuild",
        "manifest.json: /home/builder/imgbuild",
    ]


def _member(name: str, content: bytes) -> bytes:
    """Return a file as a cpio archive holds it (Linux, buffer-format.rst: newc)."""
    fields = [0] * 13
    fields[6], fields[11] = len(content), len(name) + 1
    head = b"070701" + b"".join(b"%08X" % one for one in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


@pytest.mark.allow_commands("zstd")
def test_what_an_installer_has_packed_is_found(tmp_path: Path) -> None:
    cpio = (
        _member("etc/odd", b"odd")
        + _member("etc/token", PLANTED[2].encode())
        + _member("TRAILER!!!", b"")
        + bytes(300)
    )
    packed = subprocess.run(["zstd", "-qc"], input=cpio, capture_output=True, check=True).stdout
    (tmp_path / "installer.efi").write_bytes(b"MZ" + bytes(99) + packed + b"more")
    (tmp_path / "root.erofs.zst").write_bytes(PLANTED[2].encode())
    found = leaks(tmp_path, [], tmp_path)
    assert found == [f"installer.efi: etc/token: {PLANTED[2]}"]


def test_nothing_is_cut_in_two(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"\0" * (_CHUNK - 3) + PLANTED[2].encode())
    assert list(search(path, CREDENTIALS)) == [PLANTED[2]]
    assert not list(search(path, re.compile(b"other")))

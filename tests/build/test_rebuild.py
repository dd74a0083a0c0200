"""A release for Secure Boot and TPMs, built again from its own lock without private keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.command import IMGBUILD, ROOMS, Place, copy_project
from tests.build.conftest import CHECKOUT
from tests.build.encryption import add_pcr_key
from tests.build.secureboot import SITE, add_secure_site

OFFLINE = """
import socket, sys
from builder.core.offline import leave_network
socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
leave_network()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])))
except OSError as error:
    print(error.strerror)
"""
ODD = {
    "TZ": "Pacific/Auckland",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "tr_TR.UTF-8",
    "PYTHONHASHSEED": "7",
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a place with a signed release of profile bare, and its keys."""
    place = Place(tmp_path_factory.mktemp("released"))
    copy_project(CHECKOUT, place.project, link=False)
    add_secure_site(place)
    add_pcr_key(place, SITE)
    cache = {"IMGBUILD_CACHE": str(CHECKOUT / ".cache" / "imgbuild")}
    place.run("lock", "--profile", "bare", "--site", SITE, env=cache).done()
    words = ("--site", SITE, "--version", "1.0")
    place.build("bare", *words, env=cache).done()
    place.run("keys", "new", "--to", str(place.top / "keys")).done()
    key = str(place.top / "keys/release.secret.asc")
    place.run(
        "release", str(place.out), "--to", str(place.top / "repo"), "--key", key, "--with-disk"
    ).done()
    yield place
    shutil.rmtree(place.top, ignore_errors=True)


def version(place: Place) -> Path:
    return place.top / "repo/imgbuild-bare/1.0"


def rebuild(
    place: Place, image: Path, *words: str, cache: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `imgbuild rebuild` under another umask."""
    own = {"IMGBUILD_PROJECT": str(place.project), "IMGBUILD_CACHE": str(cache or place.cache)}
    return subprocess.run(
        [str(IMGBUILD), "rebuild", str(image), *words],
        env={**os.environ, **own, **env},
        cwd=place.top,
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_changed_project_is_refused_before_any_work(released: Place) -> None:
    path = released.project / "image" / "users.conf"
    before = path.read_text()
    path.write_text(f"{before}# changed\n")
    try:
        done = rebuild(released, version(released))
    finally:
        path.write_text(before)
    assert done.returncode == 2, done.stderr
    assert "other sources than are here: image" in done.stderr
    assert not (released.cache / "debs").exists()


def test_another_lock_is_refused(released: Place, tmp_path: Path) -> None:
    other = tmp_path / "lock.json"
    text = (released.out / "lock.json").read_text()
    at = text.index('"sha256": "') + len('"sha256": "')
    other.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    done = rebuild(released, version(released), "--lock", str(other))
    assert done.returncode == 2, done.stderr
    assert "was built from another lock" in done.stderr


def test_a_release_of_others_is_refused(released: Place, tmp_path: Path) -> None:
    released.run("keys", "new", "--to", str(tmp_path / "other")).done()
    done = rebuild(released, version(released), "--keyring", str(tmp_path / "other/release.gpg"))
    assert done.returncode == 2, done.stderr
    assert "SHA256SUMS" in done.stderr


def test_there_is_no_network_but_for_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        port = server.stdout.readline().split("port ")[1].split()[0]
        try:
            done = subprocess.run(
                [sys.executable, "-c", OFFLINE, port],
                cwd=CHECKOUT,
                check=True,
                capture_output=True,
                text=True,
            )
        finally:
            server.terminate()
    assert done.stdout.strip() == "Network is unreachable"


@pytest.fixture
def elsewhere(released: Place, tmp_path: Path) -> Iterator[Place]:
    """Give another checkout, with other modes, and take the private keys away."""
    other = Place(tmp_path / "a somewhat longer path")
    copy_project(released.project, other.project, link=False)
    for room in ROOMS:
        for path in (other.project / room).rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)
    keys = [released.top / "keys/db.key", released.top / "pcr/pcr.key"]
    hidden = [key.rename(tmp_path / key.name) for key in keys]
    yield other
    for away, key in zip(hidden, keys, strict=True):
        away.rename(key)


CACHE = CHECKOUT / ".cache" / "imgbuild"  # its downloads are shared, its stages are not


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_same_bytes_elsewhere(released: Place, elsewhere: Place, tmp_path: Path) -> None:
    """Another umask, language and time zone, and no private keys."""
    again = tmp_path / "again"
    words = ("--keyring", str(released.top / "keys/release.gpg"), "--keep", str(again))
    done = rebuild(elsewhere, version(released), *words, cache=CACHE, **ODD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERS" not in done.stdout
    for name in ("root.erofs", "root.verity", "initrd.cpio", "uki.efi", "disk.raw", "lock.json"):
        assert f"same     {name} " in done.stdout.replace("\n", " \n"), done.stdout
    assert "imgbuild-bare 1.0: the same bytes in all" in done.stdout
    assert _cmp(again / "disk.raw", released.out / "disk.raw")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_one_bit_is_found(released: Place, elsewhere: Place, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(released.out, first)
    with (first / "root.erofs").open("r+b") as stream:
        stream.seek(5_000_000)
        bit = stream.read(1)[0] ^ 1
        stream.seek(5_000_000)
        stream.write(bytes([bit]))
    done = rebuild(elsewhere, first, cache=CACHE, **ODD)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERS  root.erofs" in done.stdout
    assert "from byte 5000000 on, 1 of" in done.stdout
    assert done.stdout.count("DIFFERS") == 1
    assert "imgbuild-bare 1.0: NOT the same: root.erofs" in done.stdout


def _cmp(left: Path, right: Path) -> bool:
    return subprocess.run(["cmp", left, right], check=False).returncode == 0

"""Small signed APT archives with tiny packages, served on the loopback interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SUITE = "tiny"
_PAST = "Thu, 01 Jan 2026 00:00:00 UTC"
PACKAGES = ("tiny-base", "tiny-kernel", "tiny-tool", "tiny-initrd")
# A project whose every package is in the tiny archive.
PROJECT = {
    "config/profiles/tiny.yaml": """\
description: a profile of tiny packages
kernel: {package: tiny-kernel}
packages: {roles: [tiny]}
overlays: []
disk: {esp: 64MiB, root: 64MiB, cidata: 48MiB, var_min: 64MiB}
node: {journal_max: 64MiB}
""",
    "image/packages/tiny.yaml": "- tiny-base\n",
    "image/tools.yaml": "- tiny-tool\n",
    "image/initrd.yaml": "packages: [tiny-initrd]\nmodules: []\n",
    "image/installer.yaml": "packages: []\nmodules: []\n",
    "image/users.conf": "",
}
_CONTROL = """\
Package: {name}
Version: {version}
Architecture: amd64
Maintainer: nobody <nobody@example.org>
Description: a test package
"""


def site(uri: str, keyring: Path, **more: object) -> str:
    """Return a site file with one archive; `more` are further keys of the archive."""
    lines = [f"    {key}: {value}\n" for key, value in more.items()]
    return (
        "description: a test archive\n"
        f"archives:\n  - uri: {uri}\n    suites: [{SUITE}]\n    keyring: {keyring}\n"
        + "".join(lines)
    )


@dataclass(frozen=True)
class Key:
    """A throw-away signing key: its fingerprint, and a keyring with the public half."""

    fingerprint: str
    keyring: Path


@dataclass(frozen=True)
class KeyStore:
    """A GnuPG home of its own."""

    home: Path

    def make(self, name: str, *, subkey: bool = False) -> Key:
        """Make a key that never expires; with `subkey` one that signs by its subkey alone."""
        user = f"{name} <{name}@example.org>"
        use = "cert" if subkey else "sign"
        self.gpg("--passphrase", "", "--quick-generate-key", user, "ed25519", use, "never")
        listing = self.gpg("--with-colons", "--list-keys", user)
        fingerprint = next(
            line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr")
        )
        if subkey:
            self.gpg("--passphrase", "", "--quick-add-key", fingerprint, "ed25519", "sign", "never")
        keyring = self.home / f"{name}.gpg"
        self.gpg("--output", str(keyring), "--export", fingerprint)
        return Key(fingerprint, keyring)

    def gpg(self, *words: str) -> str:
        """Run gpg(1) and return what it prints."""
        return _output(["gpg", "--batch", "--homedir", str(self.home), *words])


@contextmanager
def key_store() -> Iterator[KeyStore]:
    """Give an empty key store; its agent is ended and it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # a short path: sockets have 108 characters
    try:
        yield KeyStore(home)
    finally:
        _output(["gpgconf", "--homedir", str(home), "--kill", "all"])
        shutil.rmtree(home, ignore_errors=True)  # its agent removes sockets meanwhile


def make_packages(pool: Path) -> None:
    """Fill `pool` with the tiny packages."""
    for name in PACKAGES:
        make_package(pool, name, Essential="yes" if name == "tiny-base" else "no")


def make_package(pool: Path, name: str, version: str = "1.0", **fields: str) -> None:
    """Make one package in `pool`; `fields` are further ones of its control file."""
    tree = pool / name
    (tree / "DEBIAN").mkdir(parents=True)
    control = _CONTROL.format(name=name, version=version)
    control += "".join(f"{key}: {text}\n" for key, text in fields.items())
    (tree / "DEBIAN/control").write_text(control)
    (tree / f"usr/share/{name}").mkdir(parents=True)
    (tree / f"usr/share/{name}/text").write_text(f"{name}\n" * 100)
    _output(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(pool)])
    shutil.rmtree(tree)


def make_index(
    archive: Path, valid_until: str | None = None, name: str = SUITE, component: str = "main"
) -> Path:
    """Write Packages and an unsigned Release over the archive's pool; return the suite."""
    suite = archive / "dists" / name
    binary = suite / component / "binary-amd64"
    binary.mkdir(parents=True)
    (binary / "Packages").write_text(_output(["apt-ftparchive", "packages", "pool"], archive))
    fields = {"Suite": name, "Codename": name, "Architectures": "amd64", "Components": component}
    words = [f"--option=APT::FTPArchive::Release::{key}={text}" for key, text in fields.items()]
    release = _output(["apt-ftparchive", *words, "release", str(suite)])
    first = f"Valid-Until: {valid_until}\n" if valid_until else ""
    (suite / "Release").write_text(first + release)
    return suite


def make_flat_index(archive: Path) -> Path:
    """Write Packages and an unsigned Release beside the packages of a flat archive; return it."""
    (archive / "Packages").write_text(_output(["apt-ftparchive", "packages", "."], archive))
    release = _output(["apt-ftparchive", "release", "."], archive)
    (archive / "Release").write_text(release)
    return archive


def sign(store: KeyStore, key: Key, suite: Path) -> None:
    """Sign the Release file in a folder, inline and apart; an older signature is replaced."""
    user, release = key.fingerprint, str(suite / "Release")
    for name in ("InRelease", "Release.gpg"):
        (suite / name).unlink(missing_ok=True)
    store.gpg("-u", user, "--output", str(suite / "InRelease"), "--clearsign", release)
    store.gpg("-u", user, "-a", "--output", f"{release}.gpg", "--detach-sign", release)


@dataclass
class Server:
    """An HTTP server over one folder, which can be told to answer no more.

    While `stall_on` is a part of an address, its requests are left without an answer;
    `stalled` is set when there is one.
    """

    root: Path
    stall_on: str | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(root: Path) -> Iterator[Server]:
    """Serve a folder on 127.0.0.1 until the end of the block."""
    server = Server(root)
    handler = partial(_handler(server), directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        server.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            http.shutdown()
            thread.join()


@dataclass(frozen=True)
class Archives:
    """Archives of the same packages, each broken in its own way; `good` signs most of them."""

    server: Server
    good: Key
    other: Key

    def site(self, name: str, **more: object) -> str:
        return site(f"{self.server.uri}/{name}", self.good.keyring, **more)


@contextmanager
def broken_archives(top: Path) -> Iterator[Archives]:
    """Serve one good archive, and one for each way in which an archive is not to be trusted."""
    with key_store() as store, serve(top) as server:
        keys = Archives(server, store.make("good"), store.make("other"))
        make_archive(top / "good", store, keys.good)
        make_archive(top / "unsigned", store, None)
        make_archive(top / "foreign", store, keys.other)
        make_archive(top / "expired", store, keys.good, valid_until=_PAST)
        make_archive(top / "tampered", store, keys.good)
        edit(top / "tampered/dists" / SUITE / "main/binary-amd64/Packages", "1.0", "6.6")
        make_archive(top / "forged", store, keys.good)
        edit(top / "forged/dists" / SUITE / "InRelease", "Codename: tiny", "Codename: tinx")
        yield keys


def make_archive(
    archive: Path, store: KeyStore, key: Key | None, valid_until: str | None = None
) -> None:
    """Make a whole archive, signed where there is a key."""
    make_packages(archive / "pool")
    suite = make_index(archive, valid_until)
    if key:
        sign(store, key, suite)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a file."""
    path.write_text(path.read_text().replace(old, new, 1))


def _handler(server: Server) -> type[SimpleHTTPRequestHandler]:
    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
            if server.stall_on and server.stall_on in self.path:
                server.stalled.set()
                server.closing.wait(60)
                self.close_connection = True
                return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _output(argv: list[str], cwd: Path | None = None) -> str:
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout

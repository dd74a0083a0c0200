"""A loopback mirror of stand-ins: Debian, Docker (a normal archive), NVIDIA (flat archives)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.build.archives import (
    SUITE,
    Key,
    KeyStore,
    Server,
    key_store,
    make_flat_index,
    make_index,
    make_package,
    make_packages,
    serve,
    sign,
)

DOCKER = "5:29.1.0-1~debian.12~bookworm"
BRANCH, NEWER = "580.95.05-1", "595.45.04-1"
TOOLKIT = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container1")
DRIVER = (
    "firmware-nvidia-gsp",
    "libcuda1",
    "libnvidia-nscq",
    "nvidia-fabricmanager",
    "nvidia-kernel-open-dkms",
    "nvidia-kernel-support",
    "nvidia-modprobe",
    "nvidia-persistenced",
)
# What a vendor has no business to give: a higher version of these is in every vendor archive.
DEBIAN = ("bash", "libc6", "tiny-base", "tiny-tool")
FOREIGN = "99.0"


@dataclass(frozen=True)
class Vendors:
    """The mirror; `suites` holds the folder of each archive's Release file."""

    server: Server
    store: KeyStore
    key: Key
    other: Key
    suites: dict[str, Path]

    def sign(self, name: str, key: Key | None = None) -> None:
        sign(self.store, key or self.key, self.suites[name])

    def date(self, name: str, date: str) -> None:
        """Give an archive another, well signed date."""
        release = self.suites[name] / "Release"
        release.write_text(re.sub(r"(?m)^Date: .*$", f"Date: {date}", release.read_text()))
        self.sign(name)

    def archive(self, name: str, **more: object) -> str:
        """Return an archive's entry of a site file; `more` are further keys, or others."""
        flat = self.suites[name] == self.server.root / name
        keys: dict[str, object] = {
            "suites": "[/]" if flat else f"[{SUITE}]",
            "components": "[]" if flat else "[main]",
            "keyring": self.key.keyring,
            "fingerprints": f"[{self.key.fingerprint}]",
            **more,
        }
        lines = [f"    {key}: {text}\n" for key, text in keys.items()]
        return f"  - uri: {self.server.uri}/{name}\n" + "".join(lines)


@contextmanager
def vendor_mirror(top: Path) -> Iterator[Vendors]:
    """Serve all archives, each signed by the subkey of one key."""
    with key_store() as store, serve(top) as server:
        make_packages(top / "debian/pool")
        _docker(top / "docker/pool")
        _toolkit(top / "toolkit")
        _driver(top / "cuda")
        suites = {
            "debian": make_index(top / "debian"),
            "docker": make_index(top / "docker"),
            "toolkit": make_flat_index(top / "toolkit"),
            "cuda": make_flat_index(top / "cuda"),
        }
        key, other = store.make("mirror", subkey=True), store.make("other")
        made = Vendors(server, store, key, other, suites)
        for name in suites:
            made.sign(name)
        yield made


def _docker(pool: Path) -> None:
    pool.mkdir(parents=True)
    make_package(pool, "docker-ce", DOCKER, Depends="containerd.io, docker-ce-cli")
    make_package(pool, "docker-ce-cli", DOCKER)
    make_package(pool, "containerd.io", "2.2.0-1~debian.12~bookworm")
    _foreign(pool)


def _toolkit(folder: Path) -> None:
    folder.mkdir(parents=True)
    for version in ("1.17.8-1", "1.18.1-1"):
        same = [f"{name} (= {version})" for name in TOOLKIT[1:]]
        make_package(folder, TOOLKIT[0], version, Depends=", ".join(same))
        for name in TOOLKIT[1:]:
            make_package(folder, name, version)
    _foreign(folder)


def _driver(folder: Path) -> None:
    folder.mkdir(parents=True)
    for version in (BRANCH, NEWER):
        make_package(folder, "nvidia-driver-cuda", version, Depends=f"libcuda1 (= {version})")
        for name in DRIVER:
            make_package(folder, name, version)
    _foreign(folder)


def _foreign(folder: Path) -> None:
    for name in DEBIAN:
        essential = "yes" if name == "tiny-base" else "no"
        make_package(folder, name, FOREIGN, Essential=essential)

"""Machines that are installed from a stick: releases, installers, sticks, disks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.keep import keeping
from builder.vm.machine import Machine
from builder.vm.qemu import Accel, HostService, VmConfig
from builder.vm.session import VmNode
from builder.vm.ssh import Ssh, SshKey, make_key
from tests.build.boxed import add_node
from tests.build.command import Place
from tests.build.secureboot import signing
from tests.vm.conftest import FOLDER, ROOT
from tests.vm.versions import Versions, make_versions

VERSION = "1.0"
GIB = 1 << 30
INSTALL_S = 900.0
BOOT_KEYS = "boot-keys"
_STICK = 4 * GIB


@dataclass(frozen=True)
class Workshop:
    """Makes sticks of a released version; `key` opens the nodes that they install."""

    versions: Versions
    key: SshKey
    installer: Path

    def seed(self, host: str, **more: object) -> Path:
        """Write the seed of a node that `key` opens; `more` are further keys of it."""
        file = self.versions.place.top / f"{host}.yaml"
        file.write_text(seed_text(host, ssh_authorized_keys=[self.key.public.strip()], **more))
        return file

    def stick(self, seed: Path, *words: str, repository: Path | None = None) -> Path:
        """Return a plain file as `imgbuild flash --installer` leaves a stick."""
        made = self.versions.place.top / f"{seed.stem}.stick"
        made.touch()
        with made.open("r+b") as stream:
            stream.truncate(_STICK)
        image_id = f"imgbuild-{self.versions.profile}"
        release = (repository or self.versions.repository) / image_id / VERSION
        self.versions.place.run(
            *("flash", str(made), "--installer", str(self.installer), "--image", str(release)),
            *("--seed", str(seed), "--disk", "largest"),
            *("--yes", "--serial", "none", "--erase", *words),
        ).done()
        return made


def seed_text(host: str, **more: object) -> str:
    """Return the seed of a node; `more` are further keys of it."""
    return f"#cloud-config\n{yaml.safe_dump({'hostname': host, **more}, width=4096)}"


def make_workshop(runner: Runner, versions: Versions) -> Workshop:
    """Build and release a version, and build the installer of its site."""
    top = versions.place.top
    versions.build(VERSION)
    versions.release(VERSION)
    installer = top / "installer.efi"
    versions.place.run(
        *("installer", "--profile", versions.profile, "--out", str(installer)),
        env={"IMGBUILD_CACHE": str(versions.cache)},
    ).done()
    return Workshop(versions, make_key(runner, top / "key"), installer)


@contextmanager
def open_workshop(
    runner: Runner, top: Path, profile: str = "bare", *, signs: bool = False
) -> Iterator[Workshop]:
    """Give a workshop below `top`, which goes with it.

    Nodes of profile `boxed` serve `org/toy`. One that `signs` has Secure Boot keys.
    """
    versions = make_versions(ROOT, top, FOLDER.parent, profile)
    add_node(versions.place)
    try:
        if signs:
            _sign(versions.place)
        yield make_workshop(runner, versions)
    finally:
        remove_tree(versions.place.top)


def _sign(place: Place) -> None:
    place.run("keys", "secure-boot", "--to", str(place.top / BOOT_KEYS)).done()
    site = place.project / "config/sites/debian.yaml"
    site.write_text(site.read_text() + signing(place, BOOT_KEYS))


def asking(workshop: Workshop, address: str) -> Path:
    """Build the installer that asks a server what to do."""
    versions = workshop.versions
    made = versions.place.top / "asking.efi"
    versions.place.run(
        *("installer", "--profile", versions.profile, "--out", str(made), "--order", address),
        env={"IMGBUILD_CACHE": str(versions.cache)},
    ).done()
    return made


def blank(path: Path, size: int) -> Path:
    """Make an empty disk."""
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


def second(path: Path, *, read_only: bool = False) -> tuple[str, ...]:
    """Return QEMU's words for another disk, which firmware tries after the first."""
    mode = "readonly=on" if read_only else "discard=unmap"
    drive = f"if=none,id=second,format=raw,cache=unsafe,{mode},file={path}"
    device = "virtio-blk-pci,drive=second,bootindex=2,serial=SECOND"
    return ("-drive", drive, "-device", device)


@contextmanager
def bench(
    runner: Runner,
    workshop: Workshop,
    accel: Accel,
    disk: Path,
    extra: tuple[str, ...],
    services: tuple[HostService, ...] = (),
    write_log: Path | None = None,
    memory_mib: int = 2048,
) -> Iterator[VmNode]:
    """Switch a machine on; its console is kept when something fails."""
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=workshop.versions.place.top))
    config = VmConfig(
        disk=disk,
        accel=accel,
        memory_mib=memory_mib,
        extra=extra,
        host_services=services,
        write_log=write_log,
    )
    try:
        with Machine(runner, config) as machine:
            ssh = Ssh(runner, work / "ssh", port=machine.ports[22], key=workshop.key)
            with keeping(machine, ssh, ROOT / "out" / "failed-tests" / "test_install"):
                yield VmNode(machine, ssh, disk, workshop.key.public)
    finally:
        remove_tree(work)

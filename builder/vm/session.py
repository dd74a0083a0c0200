"""A node in a virtual machine, ready for SSH: disk with seed, machine, key."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.files import copy_sparse, remove_tree
from builder.vm.disk import DEFAULT_SIZE, prepare_disk, write_seed
from builder.vm.machine import Machine
from builder.vm.qemu import API_PORT, SSH_PORT, Firmware, VmConfig
from builder.vm.seed import raw_files, seed_files
from builder.vm.ssh import Ssh, make_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.core.process import Runner
    from builder.vm.qemu import Accel, HostService

DEFAULT_SEED = "#cloud-config\nhostname: demo\n"


@dataclass(frozen=True)
class VmNode:
    """A started machine and the way into it: `disk` is its own, `key` the public key let in."""

    machine: Machine
    ssh: Ssh
    disk: Path
    key: str


@dataclass(frozen=True)
class VmSize:
    """What a machine has: processors, memory in MiB, disk in bytes."""

    cpus: int = 2
    memory_mib: int = 2048
    disk_bytes: int = DEFAULT_SIZE


@contextmanager
def start_node(
    runner: Runner,
    image: Path,
    seed: str | bytes,
    folder: Path,
    *,
    accel: Accel,
    size: VmSize,
    raw: bool = False,
    services: tuple[HostService, ...] = (),
    extra: tuple[str, ...] = (),
    ports: tuple[int, ...] = (),
    write_log: Path | None = None,
    firmware: Firmware | None = None,
) -> Iterator[VmNode]:
    """Boot a copy of the disk image with a seed that also lets a key of our own in.

    The copy lies in `folder` and is gone afterwards. With `raw` the seed is written as it
    is, however bad, without the key. `services` are all that the node reaches; it is reached at
    `ports`, too, which `machine.ports` translates. `extra` are further words for QEMU. With
    `write_log` its disk's writes are logged there, and the disk as it was before its first
    boot lies beside it, ending in .before. Raises
    UserError for a bad image or seed, VmError when the machine does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="node-", dir=folder))
    try:
        disk = prepare_disk(runner, image, work / "disk.raw", size.disk_bytes)
        key = make_key(runner, work / "key")
        write_seed(runner, disk, _files(seed, key.public, raw=raw))
        if write_log:
            write_log.touch()
            copy_sparse(runner, disk, write_log.with_suffix(".before"))
        config = VmConfig(
            disk=disk,
            memory_mib=size.memory_mib,
            cpus=size.cpus,
            accel=accel,
            firmware=firmware or Firmware(),
            host_services=services,
            extra=extra,
            open_ports=(SSH_PORT, API_PORT, *ports),
            write_log=write_log,
        )
        with Machine(runner, config) as machine:
            ssh = Ssh(runner, work / "ssh", port=machine.ports[SSH_PORT], key=key)
            yield VmNode(machine, ssh, disk, key.public)
    finally:
        remove_tree(work)


def _files(seed: str | bytes, key: str, *, raw: bool) -> Mapping[str, str | bytes]:
    if raw:
        return raw_files(seed.encode() if isinstance(seed, str) else seed)
    return seed_files(seed if isinstance(seed, str) else seed.decode(), key)

"""The boot cases: from switching on to the login prompt on the serial console."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, gathered, spent
from bench.imgbuild import Imgbuild
from bench.mkosi import Mkosi
from bench.place import Place, say
from builder.core.files import remove_tree
from builder.vm.disk import DEFAULT_SIZE, prepare_disk, write_seed
from builder.vm.errors import VmError
from builder.vm.machine import Machine
from builder.vm.qemu import SSH_PORT, VmConfig
from builder.vm.seed import seed_files
from builder.vm.ssh import Ssh, make_key

_SEED = "#cloud-config\nhostname: bench\n"
_LIMIT_S = 400.0
_SSH_S = 120.0
_SLOWEST = 8
_GOAL = 0.85
# What the console says when a part of the boot is over; systemd greets in the initrd and again
# in the root.
_MARKS = (
    ("firmware", r"BdsDxe: starting"),
    ("boot loader", r"EFI stub: "),
    ("kernel", r"Welcome to"),
    ("initrd", r"Welcome to"),
    ("user space", r"login:"),
)


@dataclass(frozen=True)
class Boots:
    """One machine's first and second boot: seconds of each part, and the slowest units."""

    first: Mapping[str, float]
    second: Mapping[str, float]
    blame: str


def boots(place: Place, ours: Imgbuild, theirs: Mkosi, runs: int) -> list[Figure]:
    """Boot both images twice, alternately, with the same seed in the same machine."""
    mine: list[Boots] = []
    other: list[Boots] = []
    for number in range(1, runs + 1):
        mine.append(_boot(place, ours.disk))
        other.append(_boot(place, theirs.disk))
        for name, done in (("imgbuild", mine[-1]), ("mkosi", other[-1])):
            first, second = sum(done.first.values()), sum(done.second.values())
            say(f"boot {number}, {name}: first {first:.1f} s, second {second:.1f} s")
    return [
        _figure("first boot to login", [b.first for b in mine], [b.first for b in other], {}),
        _figure(
            "second boot to login",
            [b.second for b in mine],
            [b.second for b in other],
            {"imgbuild, slowest units": mine[-1].blame, "mkosi, slowest units": other[-1].blame},
        ),
    ]


def _figure(
    name: str,
    mine: list[Mapping[str, float]],
    other: list[Mapping[str, float]],
    where: dict[str, str],
) -> Figure:
    return Figure(
        name,
        "s",
        [sum(parts.values()) for parts in mine],
        [sum(parts.values()) for parts in other],
        _GOAL,
        where={"imgbuild": spent(gathered(mine)), "mkosi": spent(gathered(other)), **where},
    )


def _boot(place: Place, image: Path) -> Boots:
    place.vm.mkdir(parents=True, exist_ok=True)
    disk = prepare_disk(place.runner, image, place.vm / "disk.raw", DEFAULT_SIZE)
    key = make_key(place.runner, place.vm / "key")
    write_seed(place.runner, disk, seed_files(_SEED, key.public))
    remove_tree(place.vm / "ssh")
    began = time.monotonic()
    with Machine(place.runner, VmConfig(disk=disk)) as machine:
        first = _parts(machine, began, 0)
        ssh = Ssh(place.runner, place.vm / "ssh", port=machine.ports[SSH_PORT], key=key)
        _idle(ssh)
        machine.poweroff(_LIMIT_S)
        ssh.known_hosts.unlink(missing_ok=True)  # mkosi's image makes new host keys at each boot
        began = time.monotonic()
        second = _parts(machine, began, machine.start())
        return Boots(first, second, _blame(ssh))


def _parts(machine: Machine, began: float, position: int) -> dict[str, float]:
    """Return the seconds of each part of the boot that begins at `position` of the log."""
    parts = {}
    for name, pattern in _MARKS:
        position = machine.wait_for(pattern, _LIMIT_S, since=position).end
        now = time.monotonic()
        parts[name], began = now - began, now
    return parts


def _idle(ssh: Ssh) -> None:
    """Wait until the node is done with its boot, so that it is switched off as an idle one."""
    try:
        ssh.wait_ready(_SSH_S)
        ssh.run("cloud-init status --wait", _SSH_S)
    except VmError as error:
        say(f"the node lets nobody in: {error}")


def _blame(ssh: Ssh) -> str:
    try:
        ssh.wait_ready(_SSH_S)
        told = ssh.run("systemd-analyze blame --no-pager", _SSH_S)
    except VmError as error:
        return f"unknown: {str(error).splitlines()[0]}"
    units = [line for line in told.stdout.splitlines() if not line.endswith(".device")]
    lines = units[:_SLOWEST]
    return ", ".join(" ".join(reversed(line.strip().rsplit(" ", 1))) for line in lines)

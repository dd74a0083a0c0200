"""The QEMU command line of a node, as a pure function."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Accel = Literal["kvm", "tcg"]
PROGRAM = "qemu-system-x86_64"
SSH_PORT, API_PORT = 22, 8000
# Emulated, SHA-256 by vector instructions is four times slower than the plain one, and dm-verity
# lives on it. systemd-stub(7) takes the word, with Secure Boot as well (254).
_EMULATED = (
    "-smbios",
    "type=11,value=io.systemd.stub.kernel-cmdline-extra=module_blacklist=sha256_ssse3",
)
SMM = ("-global", "driver=cfi.pflash01,property=secure,value=on")
_OVMF = Path("/usr/share/OVMF")
_RELAY = Path(__file__).with_name("relay.py")
# Firmware tries network boot for minutes unless told not to.
_NO_NETWORK_BOOT = ("IPv4PXESupport", "IPv6PXESupport", "IPv4Support", "IPv6Support")


@dataclass(frozen=True)
class Firmware:
    """UEFI firmware: the read-only code, and the template of its variables.

    `smm` keeps the variables from all but the firmware itself, which Secure Boot needs.
    """

    code: Path = _OVMF / "OVMF_CODE_4M.fd"
    variables: Path = _OVMF / "OVMF_VARS_4M.fd"
    smm: bool = False


SECURE_BOOT = Firmware(code=_OVMF / "OVMF_CODE_4M.secboot.fd", smm=True)  # without keys: setup mode


@dataclass(frozen=True)
class HostService:
    """A server on `host_port` of 127.0.0.1, for the guest at `address`:`port` in 10.0.2.0/24."""

    address: str
    port: int
    host_port: int


@dataclass(frozen=True)
class VmConfig:
    """What a virtual machine is; `disk` is a raw file that the machine writes to.

    `restrict_network` keeps the guest from reaching anything but `host_services`; from outside
    it is reached by `open_ports` alone. With `write_log` each write and flush of the disk is
    also logged there, in the order of dm-log-writes. `extra` is appended to the command line
    as it is.
    """

    disk: Path
    memory_mib: int = 2048
    cpus: int = 2
    accel: Accel = "tcg"
    firmware: Firmware = Firmware()
    restrict_network: bool = True
    open_ports: tuple[int, ...] = (SSH_PORT, API_PORT)
    host_services: tuple[HostService, ...] = ()
    write_log: Path | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class VmPaths:
    """Where a machine keeps its own files; unix sockets need a short `work`."""

    work: Path

    @property
    def variables(self) -> Path:
        """The private copy of the firmware variables."""
        return self.work / "vars.fd"

    @property
    def serial_log(self) -> Path:
        """All that the machine wrote to its console."""
        return self.work / "serial.log"

    @property
    def serial_socket(self) -> Path:
        """The console, for one client at a time."""
        return self.work / "serial.sock"

    @property
    def qmp_socket(self) -> Path:
        """The control channel."""
        return self.work / "qmp.sock"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself printed."""
        return self.work / "qemu.log"


def qemu_argv(config: VmConfig, paths: VmPaths, ports: Mapping[int, int]) -> list[str]:
    """Return the whole command; `ports` names for each open guest port that of 127.0.0.1."""
    return [
        *(PROGRAM, "-no-user-config", "-nodefaults", "-display", "none"),
        *("-machine", f"q35,smm={'on' if config.firmware.smm else 'off'},vmport=off"),
        *(SMM if config.firmware.smm else ()),
        *accel_arguments(config.accel),
        *(_EMULATED if config.accel == "tcg" else ()),
        *("-m", str(config.memory_mib), "-smp", str(config.cpus)),
        *firmware_arguments(config.firmware.code, paths.variables),
        *_disk_arguments(config.disk, config.write_log),
        *_network_arguments(ports, config.host_services, restrict=config.restrict_network),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng0"),
        *("-device", "i6300esb", "-action", "watchdog=reset"),
        *_channel_arguments(paths),
        *config.extra,
    ]


def accel_arguments(accel: Accel) -> list[str]:
    """Return the accelerator and the processor that fits it."""
    if accel == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", "max"]


def firmware_arguments(code: Path, variables: Path) -> list[str]:
    """Return the two flash chips; `variables` is written to."""
    drive = "if=pflash,format=raw"
    return [
        *("-drive", f"{drive},unit=0,readonly=on,file={_escaped(code)}"),
        *("-drive", f"{drive},unit=1,file={_escaped(variables)}"),
    ]


def _disk_arguments(disk: Path, write_log: Path | None) -> list[str]:
    device = ["-device", "virtio-blk-pci,drive=disk0,bootindex=1"]  # 0 is that of -kernel
    if write_log:
        # blklogwrites adds its own buffers to a request; one that QEMU has merged from several
        # then has more than preadv(2) takes (IOV_MAX), and the guest would see an I/O error.
        device[-1] += ",request-merging=off"
        return ["-blockdev", json.dumps(logged_disk(disk, write_log)), *device]
    # cache=unsafe still keeps every finished write when QEMU is killed: it is in the
    # host's page cache. Only a crash of the host could lose it.
    options = "if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap"
    return ["-drive", f"{options},file={_escaped(disk)}", *device]


def logged_disk(disk: Path, log: Path) -> dict[str, object]:
    """Return the same disk below QEMU's blklogwrites, which must see the guest's flushes."""
    unsafe: dict[str, object] = {"driver": "file", "cache": {"no-flush": True}}
    return {
        "driver": "blklogwrites",
        "node-name": "disk0",
        "log-sector-size": 512,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "file": {**unsafe, "filename": str(disk), "discard": "unmap"},
        "log": {**unsafe, "filename": str(log)},
    }


def _network_arguments(
    ports: Mapping[int, int], services: Iterable[HostService], *, restrict: bool
) -> list[str]:
    words = ["user", "id=net0", f"restrict={'on' if restrict else 'off'}"]
    words += [f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in ports.items()]
    words += [f"guestfwd=tcp:{one.address}:{one.port}-cmd:{_relay(one)}" for one in services]
    arguments = [
        *("-netdev", ",".join(words)),
        *("-device", "virtio-net-pci,netdev=net0,romfile="),
    ]
    for name in _NO_NETWORK_BOOT:
        arguments += ["-fw_cfg", f"name=opt/org.tianocore/{name},string=n"]
    return arguments


def _relay(service: HostService) -> str:
    """Return the command that QEMU runs for each of the guest's connections."""
    argv = [sys.executable, "-I", "-S", str(_RELAY), str(service.host_port)]
    return shlex.join(argv).replace(",", ",,")


def _channel_arguments(paths: VmPaths) -> list[str]:
    server = "server=on,wait=off"
    log = f"logfile={_escaped(paths.serial_log)},logappend=on"
    return [
        *("-chardev", f"socket,id=serial0,path={_escaped(paths.serial_socket)},{server},{log}"),
        *("-serial", "chardev:serial0"),
        *("-chardev", f"socket,id=qmp0,path={_escaped(paths.qmp_socket)},{server}"),
        *("-mon", "chardev=qmp0,mode=control"),
    ]


def _escaped(path: Path) -> str:
    """Return a path as QEMU's option parser wants it: commas doubled."""
    return str(path).replace(",", ",,")

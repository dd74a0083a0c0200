"""The QEMU command line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from builder.vm.qemu import SECURE_BOOT, Firmware, HostService, VmConfig, VmPaths, qemu_argv

PATHS = VmPaths(Path("/run/vm"))


def value_after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_tcg_is_the_default_and_runs_anywhere() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/d.raw")), PATHS, {22: 2222})
    assert value_after(argv, "-accel") == "tcg,thread=multi"
    assert value_after(argv, "-cpu") == "max"
    assert value_after(argv, "-m") == "2048"
    assert value_after(argv, "-smp") == "2"


def test_kvm_uses_the_host_processor() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/d.raw"), accel="kvm"), PATHS, {22: 2222})
    assert value_after(argv, "-accel") == "kvm"
    assert value_after(argv, "-cpu") == "host"


def test_only_our_devices_and_no_window() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/d.raw")), PATHS, {22: 2222})
    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    assert value_after(argv, "-display") == "none"
    assert "i6300esb" in argv
    assert value_after(argv, "-action") == "watchdog=reset"
    assert "virtio-rng-pci,rng=rng0" in argv


def test_the_network_reaches_only_ssh_unless_opened() -> None:
    closed = qemu_argv(VmConfig(disk=Path("/d.raw")), PATHS, {22: 2222})
    opened = qemu_argv(VmConfig(disk=Path("/d.raw"), restrict_network=False), PATHS, {22: 2222})
    assert value_after(closed, "-netdev") == (
        "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"
    )
    assert "restrict=off" in value_after(opened, "-netdev")


def test_a_service_of_the_host_is_reached_by_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/a,b/c d/python3")
    config = VmConfig(disk=Path("/d.raw"), host_services=(HostService("10.0.2.100", 80, 4080),))
    netdev = value_after(qemu_argv(config, PATHS, {22: 2222}), "-netdev")
    network, command = netdev.split(",guestfwd=tcp:10.0.2.100:80-cmd:")
    assert network == "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"
    program, *options, relay, port = shlex.split(command.replace(",,", ","))
    assert program == "/a,b/c d/python3"
    assert options == ["-I", "-S"]
    assert Path(relay).is_file()
    assert port == "4080"


def test_firmware_code_is_read_only_and_its_variables_private() -> None:
    firmware = Firmware(Path("/fw/code.fd"), Path("/fw/vars.fd"))
    argv = qemu_argv(VmConfig(disk=Path("/d.raw"), firmware=firmware), PATHS, {22: 2222})
    assert "if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd" in argv
    assert "if=pflash,format=raw,unit=1,file=/run/vm/vars.fd" in argv
    assert not any("/fw/vars.fd" in word for word in argv)


def test_secure_boot_keeps_the_variables_from_the_guest() -> None:
    plain = qemu_argv(VmConfig(disk=Path("/d.raw")), PATHS, {22: 2222})
    secure = qemu_argv(VmConfig(disk=Path("/d.raw"), firmware=SECURE_BOOT), PATHS, {22: 2222})
    assert value_after(plain, "-machine") == "q35,smm=off,vmport=off"
    assert value_after(secure, "-machine") == "q35,smm=on,vmport=off"
    assert "driver=cfi.pflash01,property=secure,value=on" in secure
    assert any(word.endswith("OVMF_CODE_4M.secboot.fd") for word in secure)
    assert not any("secure" in word or "secboot" in word for word in plain)


def test_firmware_does_not_try_the_network() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/d.raw")), PATHS, {22: 2222})
    for name in ("IPv4PXESupport", "IPv6PXESupport"):
        assert f"name=opt/org.tianocore/{name},string=n" in argv


def test_commas_in_a_path_do_not_end_it() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/a,b/d.raw")), PATHS, {22: 2222})
    assert any(word.endswith("file=/a,,b/d.raw") for word in argv)


def test_extra_arguments_come_last() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/d.raw"), extra=("-machine", "smm=on")), PATHS, {22: 1})
    assert argv[-2:] == ["-machine", "smm=on"]


def test_the_serial_log_survives_a_restart() -> None:
    argv = qemu_argv(VmConfig(disk=Path("/d.raw")), PATHS, {22: 2222})
    assert any("logfile=/run/vm/serial.log,logappend=on" in word for word in argv)

"""The health gate on a real node: what is good, what is the seed's, the machine's, the image's."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from builder.core.process import Runner
from builder.vm.disk import write_seed
from builder.vm.gpt import partitions
from builder.vm.seed import seed_files
from builder.vm.session import VmNode
from tests.vm.conftest import BOOT_S, Image, wait_settled

pytestmark = pytest.mark.vm

NODE_SEED = """#cloud-config
hostname: gpu-07
"""
BAD_UNIT = """#cloud-config
hostname: gpu-07
write_files:
  - path: /etc/systemd/system/own.service
    content: |
      [Service]
      Type=oneshot
      ExecStart=/bin/false
runcmd:
  - systemctl start own.service || true
"""
FAT = {"MTOOLS_SKIP_CHECK": "1"}
FAILING = "systemd-backlight@none:such.service"  # a unit of the image, for a device of no kind


def verdict(node: VmNode) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(node.ssh.run("imgnode gate show --json").stdout)
    return told


def esp(node: VmNode) -> list[str]:
    return node.ssh.run("sudo ls /boot/EFI/Linux").stdout.split()


def metric(node: VmNode) -> str:
    return node.ssh.run("cat /run/imgnode/metrics/gate.prom").stdout


def test_a_good_boot_is_judged_ok_and_blessed(up: VmNode) -> None:
    now = verdict(up)["now"]
    assert (now["state"], now["class"], now["slot"], now["tries"]) == ("done", "ok", "A", "+2-1")
    assert "nothing to serve" in now["text"]
    assert [name for name in esp(up) if "+" in name] == []
    lines = up.ssh.run("imgnode status").stdout
    assert "boot     good since this boot\n" in lines
    assert "gate     ok: " in lines
    assert 'imgnode_gate_verdict{class="ok"} 1' in metric(up)
    assert up.ssh.run("systemctl is-system-running").stdout.strip() == "running"


def test_no_login_waits_for_it(up: VmNode) -> None:
    def began(unit: str, moment: str) -> int:
        return int(up.ssh.run(f"systemctl show {unit} -P {moment}Monotonic").stdout)

    gate = began("imgnode-gate.service", "InactiveExitTimestamp")
    for unit in ("getty.target", "ssh.service"):
        assert 0 < began(unit, "ActiveEnterTimestamp") <= gate
    assert began("multi-user.target", "ActiveEnterTimestamp") < began(
        "boot-complete.target", "ActiveEnterTimestamp"
    )


def test_ill_hardware_is_quarantined_until_it_is_mended(up: VmNode) -> None:
    """A /var that the initrd would have called volatile, judged on the running node."""
    up.ssh.run("echo 'no partition of type var' | sudo tee /run/imgnode/var-degraded")
    assert up.ssh.run("sudo imgnode gate run", 300).rc == 0
    assert verdict(up)["now"]["class"] == "hardware"
    assert up.ssh.run("cat /run/imgnode/quarantine").stdout.startswith("/var is VOLATILE")
    up.ssh.run("sudo systemctl start vllm.service")
    assert up.ssh.run("systemctl show vllm.service -P ConditionResult").stdout.strip() == "no"
    assert 'imgnode_gate_verdict{class="hardware"} 1' in metric(up)
    assert "quarantine: the image is kept" in up.ssh.run("cat /run/motd.d/imgnode-gate").stdout
    up.machine.wait_for("gate: hardware: /var is VOLATILE", 120)  # above the login prompt
    up.ssh.run("sudo rm /run/imgnode/var-degraded")
    assert up.ssh.run("sudo imgnode gate run", 300).rc == 0
    assert verdict(up)["now"]["class"] == "ok"
    assert up.ssh.run("ls /run/imgnode/quarantine /run/motd.d/imgnode-gate").stdout == ""


def test_a_good_version_with_a_failing_unit_stays_up(up: VmNode) -> None:
    assert up.ssh.run(f"sudo systemctl start {FAILING}").rc != 0
    assert up.ssh.run("sudo imgnode gate run --boot", 120).rc == 1
    now = verdict(up)["now"]
    assert (now["class"], now["text"]) == ("image", f"{FAILING} failed")
    assert now["then"] == "this version was good before: the node stays up"
    up.ssh.run("sudo systemctl reset-failed")
    assert up.ssh.run("sudo imgnode gate run --boot", 120).rc == 0


def test_a_unit_of_the_seed_that_fails_is_the_seeds_matter(up: VmNode, runner: Runner) -> None:
    up.machine.poweroff(BOOT_S)
    write_seed(runner, up.disk, seed_files(BAD_UNIT, up.key))
    since = up.machine.start()
    up.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(up)
    now = verdict(up)["now"]
    assert now["class"] == "config"
    assert now["text"] == "own.service failed, which is no unit of the image"
    assert up.ssh.run("systemctl is-failed imgnode-gate.service").stdout.strip() == "active"
    assert now["tries"] is None


@pytest.mark.parametrize("tries", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_version_at_fault_is_given_up_when_no_try_is_left(
    up: VmNode, runner: Runner, image: Image, tries: int
) -> None:
    """The same root once more as version 99999999, with one more unit to start."""
    up.machine.poweroff(BOOT_S)
    write_seed(runner, up.disk, seed_files(NODE_SEED, up.key))
    image_id = json.loads((image.folder / "manifest.json").read_text())["image_id"]
    install_faulty_second_version(runner, up.disk, image, image_id, tries)
    since = up.machine.start()
    for left in ("tries left: 2", "tries left: 1", "no try is left, back to")[-tries:]:
        text = f"gate: rebooting in 10 s: {left}"
        told_at = up.machine.wait_for(text, BOOT_S, since=since).end
        # The verdict is printed above a new login prompt, too: wait for the next boot itself.
        since = up.machine.wait_for("EFI stub: Loaded initrd", BOOT_S, since=told_at).end
    up.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(up)
    good = [name for name in esp(up) if "99999999" not in name]
    assert esp(up) == [*good, f"{image_id}_99999999+0-3.efi"]
    assert FAILING not in up.ssh.run("cat /proc/cmdline").stdout
    told = verdict(up)
    assert told["now"]["class"] == "ok"
    last = [(one["class"], one["tries"]) for one in told["history"][-tries - 1 :]]
    judged = [("image", "+2-1"), ("image", "+1-2"), ("image", "+0-3")]
    assert last == [*judged[-tries:], ("ok", None)]
    assert told["history"][-2]["text"] == f"{FAILING} failed"


def install_faulty_second_version(
    runner: Runner, disk: Path, image: Image, image_id: str, tries: int
) -> None:
    """Put the UKI onto the ESP once more, with so many of its three tries left, and more words."""
    uki = disk.with_name("second.efi")
    uki.write_bytes(
        with_words((image.folder / "uki.efi").read_bytes(), f" systemd.wants={FAILING}")
    )
    counter = {3: "+3", 1: "+1-2"}[tries]
    target = f"::/EFI/Linux/{image_id}_99999999{counter}.efi"
    offset = partitions(runner, disk)[0].offset
    runner.run(["mcopy", "-o", "-i", f"{disk}@@{offset}", uki, target], env=FAT)


def with_words(uki: bytes, words: str) -> bytes:
    """Lengthen the section `.cmdline` of an unsigned UKI within its padding (PE format)."""
    data = bytearray(uki)
    head = struct.unpack_from("<I", data, 0x3C)[0]
    sections, optional = (struct.unpack_from("<H", data, head + at)[0] for at in (6, 20))
    for number in range(sections):
        at = head + 24 + optional + 40 * number
        if data[at : at + 8].rstrip(b"\0") == b".cmdline":
            size, _, room, start = struct.unpack_from("<4I", data, at + 8)
            text = data[start : start + size].rstrip(b"\0\n") + words.encode()
            assert len(text) <= room, "no room behind the command line"
            data[start : start + room] = text.ljust(room, b"\0")
            struct.pack_into("<I", data, at + 8, len(text))
    assert words.encode() in data
    return bytes(data)

"""The life of one node, in order: first boot, what it is, second boot, what has stayed."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from builder.vm.session import VmNode
from tests.vm.conftest import BOOT_S, Image, wait_settled

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def before(host: Host) -> dict[str, str]:
    """Give what must outlive a reboot, taken at the first boot, after leaving marks."""
    host.check_output("echo kept > /var/lib/imgnode/mark; echo lost > /etc/mark; sync")
    return {
        "host key": host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub"),
        "machine id": host.check_output("cat /etc/machine-id"),
        "var": host.check_output("findmnt -nro UUID /var"),
    }


@pytest.fixture(scope="module")
def rebooted(up: VmNode, before: dict[str, str]) -> dict[str, str]:
    """Reboot once, by the node's own hand, and give what was before."""
    since = up.machine.serial.position()
    up.ssh.run("sudo systemctl reboot", BOOT_S)
    up.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(up)
    return before


def test_root_is_read_only_and_verity_backed(host: Host, image: Image) -> None:
    mount = json.loads(host.check_output("findmnt --json /"))["filesystems"][0]
    assert mount["fstype"] == "erofs"
    assert "ro" in mount["options"].split(",")
    assert host.run("touch /usr/mark").rc != 0
    status = host.check_output("veritysetup status root || dmsetup table root")
    root_hash = json.loads((image.folder / "manifest.json").read_text())["root_hash"]
    assert root_hash in status
    assert f"roothash={root_hash}" in host.file("/proc/cmdline").content_string


def test_no_unit_failed_and_the_version_is_good(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("systemctl is-system-running") == "running"
    entries = host.check_output("ls /boot/EFI/Linux").splitlines()
    assert len(entries) == 1
    assert "+" not in entries[0], "the boot counter is still there: not blessed"


def test_nothing_in_the_journal_needs_mending(host: Host) -> None:
    warnings = host.check_output("journalctl -b --no-pager -p warning -q -o cat")
    for words in ("ordering cycle", "Failed to parse", "Unknown key", "Unknown group", "volatile"):
        assert words not in warnings


def test_hostname_and_key_come_from_the_seed(host: Host) -> None:
    assert host.check_output("hostname") == "gpu-07"
    assert "imgbuild" in host.file("/home/admin/.ssh/authorized_keys").content_string


def test_identity_is_the_manifest_s(host: Host, image: Image) -> None:
    manifest = json.loads((image.folder / "manifest.json").read_text())
    release = host.file("/usr/lib/os-release").content_string
    assert f'IMAGE_ID="{manifest["image_id"]}"' in release
    assert f'IMAGE_VERSION="{manifest["version"]}"' in release
    installed = host.check_output("dpkg-query -W -f '${Package} ${Version}\\n'").splitlines()
    assert sorted(installed) == sorted(f"{p['name']} {p['version']}" for p in manifest["packages"])


def test_var_is_the_rest_of_the_disk(host: Host) -> None:
    mount = json.loads(host.check_output("findmnt --bytes --json -o +SIZE /var"))["filesystems"][0]
    assert mount["fstype"] == "ext4"
    assert int(mount["size"]) > 4 << 30
    assert host.file("/var/log/journal").is_directory


def test_slot_b_is_empty(host: Host) -> None:
    labels = host.check_output("lsblk -nro PARTLABEL").split()
    assert labels.count("_empty") == 2


def test_only_keys_open_ssh_and_root_is_locked(host: Host) -> None:
    settings = host.check_output("sshd -T").splitlines()
    for line in (
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin no",
        "maxauthtries 3",
        "authorizedkeysfile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u",
    ):
        assert line in settings
    shadow = host.file("/etc/shadow").content_string.splitlines()
    assert all(line.split(":")[1].startswith("!") for line in shadow)


def test_cloud_init_is_content(host: Host) -> None:
    assert "status: done" in host.check_output("cloud-init status")


def test_no_package_manager_or_compiler_is_left(host: Host) -> None:
    for program in ("apt-get", "gcc", "make", "perl5.36-x86_64-linux-gnu"):
        assert not host.exists(program)


def test_second_boot_keeps_keys_identity_and_var(host: Host, rebooted: dict[str, str]) -> None:
    assert host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub") == rebooted["host key"]
    assert host.check_output("cat /etc/machine-id") == rebooted["machine id"]
    assert host.check_output("findmnt -nro UUID /var") == rebooted["var"]
    assert host.file("/var/lib/imgnode/mark").content_string == "kept\n"


def test_second_boot_forgets_changes_to_etc(host: Host, rebooted: dict[str, str]) -> None:  # noqa: ARG001
    assert not host.file("/etc/mark").exists
    assert host.check_output("hostname") == "gpu-07"


def test_second_boot_is_clean(host: Host, rebooted: dict[str, str]) -> None:  # noqa: ARG001
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("lsblk -nro PARTLABEL").split().count("_empty") == 2
    assert int(host.check_output("journalctl --list-boots --quiet --no-pager | wc -l")) == 2

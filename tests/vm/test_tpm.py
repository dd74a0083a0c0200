"""An encrypted var and what is sealed to a TPM, in order: one node, versions of two keys."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.errors import HostKeyChanged, VmTimeout
from builder.vm.gpt import partitions
from builder.vm.machine import Machine
from builder.vm.qemu import SSH_PORT, Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from builder.vm.ssh import Ssh, make_key
from tests.build.encryption import PROFILE, add_pcr_key, add_profile, sign_with
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, SEED, keep_if_failed, wait_settled
from tests.vm.releases import Releases
from tests.vm.tpm import Tpm
from tests.vm.updates import COMMAND_S, TRIES_S, reboots_into, say, slots, status
from tests.vm.versions import SERVER, Versions, make_versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(1800)]

FIRST, SECOND, STRANGE = "2099.1", "2099.2", "2099.3"
OWN, OTHER = "pcr", "other"
MARK, PLACE = "what nobody else shall read 7f3a", "/var/lib/mark"
CREDENTIAL = "/var/lib/secret.cred"
PUBLIC_KEY = "/run/systemd/tpm2-pcr-public-key.pem"
REFUSED = "the TPM does not open it"
FAT = {"MTOOLS_SKIP_CHECK": "1"}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """Build two versions signed by one key, and one by another; the first is released."""
    if os.environ.get("IMGBUILD_TEST_IMAGE"):
        pytest.skip("signs images of its own")
    top = tmp_path_factory.mktemp("versions")
    made = make_versions(ROOT, top, FOLDER.parent, PROFILE)
    try:
        add_profile(made.place)
        for key in (OTHER, OWN):
            add_pcr_key(made.place, "debian", key)
        for version, key in ((FIRST, OWN), (SECOND, OWN), (STRANGE, OTHER)):
            sign_with(made.place, "debian", key)
            made.build(version)
        made.release(FIRST)
        yield made
    finally:
        remove_tree(top)


@pytest.fixture(scope="module")
def releases(versions: Versions) -> Iterator[Releases]:
    with Releases(versions.repository) as server:
        yield server


@pytest.fixture(scope="module")
def tpm() -> Iterator[Tpm]:
    with Tpm() as started:
        yield started


@pytest.fixture(scope="module")
def up(
    request: pytest.FixtureRequest,
    runner: Runner,
    versions: Versions,
    accel: Accel,
    releases: Releases,
    tpm: Tpm,
) -> Iterator[VmNode]:
    """Give a node of the first version after its first boot."""
    services = (HostService(SERVER, 80, releases.port),)
    disk = versions.place.top / "images" / FIRST / "disk.raw"
    size = VmSize(disk_bytes=4 << 30)
    with start_node(
        runner, disk, SEED, FOLDER, accel=accel, size=size, services=services, extra=tpm.words
    ) as started:
        try:
            started.machine.wait_for("login:", BOOT_S)
            wait_settled(started)
            yield started
        finally:
            keep_if_failed(request, started)


def restarted(node: VmNode, tpm: Tpm) -> None:
    """Switch the node off and on, and wait until it has settled."""
    node.machine.poweroff(BOOT_S)
    switched_on(node, tpm)
    wait_settled(node)


def switched_on(node: VmNode, tpm: Tpm) -> None:
    """Switch the node on and wait until it is up."""
    tpm.ready()
    since = node.machine.start()
    node.machine.wait_for("login:", BOOT_S, since=since)


def opened(node: VmNode) -> bool:
    """Tell whether /var is the encrypted one."""
    return say(node, "findmnt -no SOURCE /var") == "/dev/mapper/var"


def marked(node: VmNode) -> None:
    """Assert that /var is open, as it was, and all is well."""
    assert opened(node)
    assert say(node, f"cat {PLACE}") == MARK
    assert "var      encrypted, opened by the TPM" in say(node, "imgnode status")
    assert say(node, f"sudo systemd-creds decrypt --name=secret {CREDENTIAL} -") == "hidden"


def unknown(runner: Runner, up: VmNode, machine: Machine) -> VmNode:
    """Give a way into a machine whose /var, and host keys with it, may be another one."""
    folder = Path(tempfile.mkdtemp(prefix="ssh-", dir=up.ssh.config.parent))
    key = make_key(runner, up.disk.parent / "key")
    ssh = Ssh(runner, folder, port=machine.ports[SSH_PORT], key=key)
    return VmNode(machine, ssh, up.disk, up.key)


def back_by_itself(node: VmNode, version: str) -> None:
    """Wait until the node is back at a version; one whose /var is not open has other host keys."""
    deadline = time.monotonic() + TRIES_S
    while True:
        with contextlib.suppress(HostKeyChanged, VmTimeout):
            node.ssh.wait_ready(60)
            done = node.ssh.run("sudo imgnode update status --json", COMMAND_S)
            if done.rc == 0 and json.loads(done.stdout)["running"] == version:
                break
        assert time.monotonic() < deadline
        time.sleep(5)
    wait_settled(node)


def told(node: VmNode) -> tuple[str, str]:
    """Return class and text of the gate's verdict."""
    found = json.loads(say(node, "imgnode gate show --json"))["now"]
    return found["class"], found["text"]


@pytest.fixture(scope="module")
def recovery_keys(up: VmNode) -> tuple[str, str]:
    """Give a recovery key that is void, and the one that replaces it."""
    asked = "sudo imgnode var recovery-key"
    return say(up, asked), say(up, f"{asked} --new")


def test_the_first_boot_encrypts_var_and_seals_it(up: VmNode) -> None:
    assert opened(up)
    device = say(up, "cat /run/imgnode/var-device")
    assert say(up, f"sudo blkid -p -s TYPE -o value {device}") == "crypto_LUKS"
    dump = json.loads(say(up, f"sudo cryptsetup luksDump --dump-json-metadata {device}"))
    (token,) = dump["tokens"].values()
    assert token["type"] == "systemd-tpm2"
    assert (token["tpm2-pcrs"], token["tpm2_pubkey_pcrs"]) == ([7], [11])
    assert len(dump["keyslots"]) == 2, "the TPM's, and the recovery key's"
    assert say(up, "systemctl --failed --no-legend --plain") == ""
    assert told(up)[0] == "ok"


def test_the_recovery_key_is_there_and_asked_for(
    up: VmNode, recovery_keys: tuple[str, str]
) -> None:
    assert [len(one) for one in recovery_keys] == [64 + 7, 64 + 7]
    assert "nobody has its recovery key yet" not in say(up, "imgnode status")
    device = say(up, "cat /run/imgnode/var-device")
    alone = "--test-passphrase --disable-external-tokens"  # and not the TPM
    test = f"sudo cryptsetup open {alone} --key-file - {device}"
    old, new = recovery_keys
    say(up, f"echo -n {new} | {test}")
    for wrong in (old, new[1:]):
        assert up.ssh.run(f"echo -n {wrong} | {test}", COMMAND_S).rc == 2


def test_it_opens_at_the_next_boot_and_the_disk_alone_tells_nothing(up: VmNode, tpm: Tpm) -> None:
    say(up, f"echo '{MARK}' | sudo tee {PLACE}")
    words = f"--with-key=tpm2-with-public-key --tpm2-public-key={PUBLIC_KEY}"
    say(up, f"echo -n hidden | sudo systemd-creds encrypt {words} --name=secret - {CREDENTIAL}")
    restarted(up, tpm)
    marked(up)
    say(up, "sudo sync")
    assert MARK.encode() not in up.disk.read_bytes()


def test_a_version_of_the_same_key_opens_it(up: VmNode, versions: Versions) -> None:
    versions.release(SECOND)
    reboots_into(up, "imgnode update apply --reboot", SECOND)
    marked(up)


def test_a_version_of_another_key_does_not_and_goes_back(up: VmNode, versions: Versions) -> None:
    versions.release(STRANGE)
    since = up.machine.serial.position()
    up.ssh.run("sudo imgnode update apply --reboot", COMMAND_S)
    up.machine.wait_for(REFUSED, BOOT_S, since=since)
    back_by_itself(up, SECOND)
    assert slots(up)[STRANGE] == 0
    assert STRANGE in status(up)["failed"]
    marked(up)


def test_a_version_of_a_key_that_was_let_in_opens_it(up: VmNode, versions: Versions) -> None:
    public = (versions.place.top / OTHER / "pcr.pub").read_text()
    say(up, f"echo '{public}' > /tmp/new.pub && sudo imgnode var seal --also /tmp/new.pub")
    reboots_into(up, "imgnode update apply --retry --reboot", STRANGE)
    assert opened(up)
    assert say(up, f"cat {PLACE}") == MARK
    reboots_into(up, "imgnode update rollback --reboot", SECOND)
    marked(up)


@contextmanager
def altered(runner: Runner, up: VmNode, work: Path) -> Iterator[None]:
    """Switch the node off and alter its version's command line; afterwards it is as it was."""
    entry = f"::/EFI/Linux/imgbuild-{PROFILE}_{status(up)['running']}.efi"
    up.machine.poweroff(BOOT_S)
    esp = f"{up.disk}@@{partitions(runner, up.disk)[0].offset}"
    runner.run(["mcopy", "-n", "-i", esp, entry, work / "good"], env=FAT)
    content = (work / "good").read_bytes()
    (work / "bad").write_bytes(content.replace(b"panic=10", b"panic=11"))
    runner.run(["mcopy", "-o", "-i", esp, work / "bad", entry], env=FAT)
    try:
        yield
    finally:
        if up.machine.running():
            up.machine.poweroff(BOOT_S)
        runner.run(["mcopy", "-o", "-i", esp, work / "good", entry], env=FAT)


def test_another_command_line_does_not_open_it(
    up: VmNode, tpm: Tpm, runner: Runner, tmp_path: Path
) -> None:
    """The version was good before, so the node stays up, and says what is wrong."""
    with altered(runner, up, tmp_path):
        switched_on(up, tpm)
        shut = unknown(runner, up, up.machine)
        wait_settled(shut)
        assert not opened(shut)
        device = say(shut, "cat /run/imgnode/var-device")
        assert f"var      VOLATILE: {device} is encrypted" in say(shut, "imgnode status")
        assert told(shut)[0] == "image"
        shown = say(shut, "imgnode gate show")
        assert REFUSED in shown
        assert "imgnode var seal" in shown
    switched_on(up, tpm)
    wait_settled(up)
    marked(up)


@contextmanager
def elsewhere(runner: Runner, up: VmNode, words: tuple[str, ...]) -> Iterator[VmNode]:
    """Give the node's disk in another machine, which has its TPM or none."""
    if up.machine.running():
        up.machine.poweroff(BOOT_S)
    with Machine(runner, replace(up.machine.config, extra=words)) as machine:
        machine.wait_for("login:", BOOT_S)
        moved = unknown(runner, up, machine)
        wait_settled(moved)
        yield moved


def test_without_a_tpm_the_node_is_up_and_says_so(up: VmNode, runner: Runner) -> None:
    with elsewhere(runner, up, ()) as moved:
        assert not opened(moved)
        assert "this machine shows none" in say(moved, "imgnode status")
        assert told(moved)[0] == "hardware"


def test_on_another_board_the_recovery_key_seals_it_anew(
    up: VmNode, runner: Runner, recovery_keys: tuple[str, str]
) -> None:
    with Tpm() as other, elsewhere(runner, up, other.words) as moved:
        assert not opened(moved)
        assert "does not open" in moved.ssh.run("echo wrong | sudo imgnode var seal", 300).stderr
        said = say(moved, f"echo {recovery_keys[1]} | sudo imgnode var seal")
        assert "sealed to this machine's TPM; /var comes back with the next boot" in said
        again = unknown(runner, up, moved.machine)  # its host keys lie on the /var that is back
        restarted(again, other)
        assert opened(again)
        assert say(again, f"cat {PLACE}") == MARK

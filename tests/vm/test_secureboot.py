"""Firmware with Secure Boot, in order: keys enrolled from the ESP, a boot, and what it refuses."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.gpt import partitions
from builder.vm.qemu import SECURE_BOOT, Accel
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.command import Place, copy_project
from tests.build.secureboot import SITE, add_secure_site
from tests.vm.conftest import FOLDER, ROOT, SEED, Image, keep_if_failed, wait_settled

pytestmark = pytest.mark.vm

BOOT_S = 900.0  # the whole kernel and root are hashed, emulated, by the slow code
REFUSED_S = 180.0
MODULE, TRAILER, MAGIC = "cordic", 12, b"~Module signature appended~\n"
LOADERS = ("::/EFI/BOOT/BOOTX64.EFI", "::/EFI/systemd/systemd-bootx64.efi")
FAT = {"MTOOLS_SKIP_CHECK": "1"}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Give a project whose site signs."""
    if os.environ.get("IMGBUILD_TEST_IMAGE"):
        pytest.skip("signs an image of its own")
    place = Place(FOLDER / "secureboot" / os.environ.get("PYTEST_XDIST_WORKER", "alone"))
    remove_tree(place.top)
    copy_project(ROOT, place.project, link=True)
    add_secure_site(place)
    yield place
    remove_tree(place.top)


@pytest.fixture(scope="module")
def image(place: Place) -> Image:
    """Give an image that is signed."""
    words = ("--profile", "bare", "--site", SITE, "--out", str(place.out))
    place.run("build", *words, env={"IMGBUILD_CACHE": str(FOLDER.parent)}).done()
    return Image(place.out)


@pytest.fixture(scope="module")
def node(
    request: pytest.FixtureRequest, runner: Runner, image: Image, accel: Accel
) -> Iterator[VmNode]:
    """Give a node whose firmware has no keys yet."""
    with start_node(
        runner, image.disk, SEED, FOLDER, accel=accel, size=VmSize(), firmware=SECURE_BOOT
    ) as started:
        yield started
        keep_if_failed(request, started)


@pytest.fixture(scope="module")
def enrolled(node: VmNode) -> VmNode:
    """Give the node once systemd-boot has enrolled the keys, and it has come up by them."""
    node.machine.wait_for("login:", BOOT_S)
    wait_settled(node)
    return node


@pytest.fixture(scope="module")
def host(enrolled: VmNode) -> Host:
    """Give testinfra's view of the node."""
    return testinfra.get_host("ssh://node", ssh_config=str(enrolled.ssh.config), sudo=True)


@pytest.fixture(scope="module")
def off(enrolled: VmNode, host: Host) -> VmNode:
    """Give the node, switched off; its firmware keeps its keys."""
    host.check_output("sync")
    enrolled.machine.poweroff(BOOT_S)
    return enrolled


def variable(host: Host, name: str) -> bytes:
    """Return what a variable of the firmware holds, less its attributes."""
    vendor = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    path = f"/sys/firmware/efi/efivars/{name}-{vendor}"
    return bytes.fromhex(host.check_output(f"od -An -v -tx1 {path}"))[4:]


def test_the_firmware_checks_what_it_starts(host: Host) -> None:
    assert variable(host, "SetupMode") == b"\0"
    assert variable(host, "SecureBoot") == b"\1"


def test_the_kernel_locks_itself_down_and_all_works(host: Host) -> None:
    assert "[integrity]" in host.file("/sys/kernel/security/lockdown").content_string
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("systemctl is-system-running") == "running"
    assert "+" not in host.check_output("ls /boot/EFI/Linux"), "not blessed"


@pytest.mark.long
def test_modules_load_that_debian_or_db_signed_and_no_others(
    host: Host, place: Place, tmp_path: Path
) -> None:
    """What is compiled here, such as a GPU driver, is signed by db's key (`module_key`)."""
    path = host.check_output(f"modinfo -n {MODULE}")
    signed = base64.b64decode(host.check_output(f"base64 {path}"))
    bare = without_signature(signed)
    assert insert(host, signed)
    assert not insert(host, bare)
    assert insert(host, by_key(bare, place.top / "keys/db", tmp_path))
    assert not insert(host, by_key(bare, place.top / "keys/KEK", tmp_path))


def insert(host: Host, module: bytes) -> bool:
    """Tell whether the kernel takes a module; it is taken out again."""
    text = base64.b64encode(module).decode()
    host.check_output(f"echo {text} | base64 --decode > /run/module.ko")
    done = host.run("insmod /run/module.ko")
    assert done.rc == 0 or "rejected" in done.stderr + host.check_output("dmesg | tail -n 3")
    host.run(f"rmmod {MODULE}")
    return bool(done.rc == 0)


def without_signature(module: bytes) -> bytes:
    """Return a module as it was before it was signed (include/linux/module_signature.h)."""
    content = module.removesuffix(MAGIC)
    assert content != module
    return content[: -TRAILER - int.from_bytes(content[-4:], "big")]


def by_key(module: bytes, key: Path, work: Path) -> bytes:
    """Return a module signed by a key, as the kernel's sign-file does."""
    (work / "module").write_bytes(module)
    words = ["-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap", "-md", "sha256"]
    pair = ["-signer", f"{key}.crt", "-inkey", f"{key}.key", "-in", str(work / "module")]
    made = ["-outform", "DER", "-out", str(work / "signature")]
    subprocess.run(["openssl", "cms", *words, *pair, *made], check=True)
    signature = (work / "signature").read_bytes()
    trailer = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(signature).to_bytes(4, "big")  # 2: PKCS#7
    return module + signature + trailer + MAGIC


@contextmanager
def on_the_esp(runner: Runner, node: VmNode, names: dict[str, Path]) -> Iterator[None]:
    """Replace files on the ESP of a machine that is off; bring them back afterwards."""
    esp = f"{node.disk}@@{partitions(runner, node.disk)[0].offset}"
    kept = node.disk.with_name("kept")
    kept.mkdir()
    for number, (name, new) in enumerate(names.items()):
        runner.run(["mcopy", "-n", "-i", esp, name, kept / str(number)], env=FAT)
        runner.run(["mcopy", "-o", "-i", esp, new, name], env=FAT)
    try:
        yield
    finally:
        for number, name in enumerate(names):
            runner.run(["mcopy", "-o", "-i", esp, kept / str(number), name], env=FAT)
        remove_tree(kept)


def refused(node: VmNode, words: str) -> None:
    """Switch the machine on and wait until firmware or boot loader say no."""
    since = node.machine.start()
    try:
        node.machine.wait_for(words, REFUSED_S, since=since)
        text = node.machine.paths.serial_log.read_bytes()[since:]
        assert b"Linux version" not in text
        assert b"Welcome to" not in text
    finally:
        node.machine.power_cut()


def unsigned(runner: Runner, signed: Path, target: Path) -> Path:
    """Return a copy of an EFI program without its signature."""
    shutil.copyfile(signed, target)
    runner.run(["sbattach", "--remove", target])
    return target


def altered(signed: Path, old: bytes, new: bytes, target: Path) -> Path:
    """Return a copy of a signed program in which a few bytes differ."""
    content = signed.read_bytes()
    assert len(old) == len(new)
    assert old in content
    target.write_bytes(content.replace(old, new))
    return target


def entry(image: Image) -> str:
    return f"::/EFI/Linux/{image.manifest.image_id}_{image.manifest.version}.efi"


DENIED = "(?i)access denied|security violation"


def test_an_unsigned_kernel_image_does_not_boot(
    off: VmNode, runner: Runner, image: Image, tmp_path: Path
) -> None:
    bare = unsigned(runner, image.folder / "uki.efi", tmp_path / "uki.efi")
    with on_the_esp(runner, off, {entry(image): bare}):
        refused(off, DENIED)


def test_a_signed_kernel_image_with_another_command_line_does_not_boot(
    off: VmNode, image: Image, runner: Runner, tmp_path: Path
) -> None:
    open_up = altered(image.folder / "uki.efi", b"panic=10", b"init=/sh", tmp_path / "uki.efi")
    with on_the_esp(runner, off, {entry(image): open_up}):
        refused(off, DENIED)


def test_an_unsigned_boot_loader_does_not_start(
    off: VmNode, runner: Runner, tmp_path: Path
) -> None:
    esp = f"{off.disk}@@{partitions(runner, off.disk)[0].offset}"
    runner.run(["mcopy", "-i", esp, LOADERS[0], tmp_path / "signed.efi"], env=FAT)
    bare = unsigned(runner, tmp_path / "signed.efi", tmp_path / "loader.efi")
    with on_the_esp(runner, off, dict.fromkeys(LOADERS, bare)):
        refused(off, DENIED)


@pytest.mark.long
def test_what_was_signed_boots_again(off: VmNode) -> None:
    """Nothing else was in the way before; the keys come from the firmware alone now."""
    since = off.machine.start()
    off.machine.wait_for("login:", BOOT_S, since=since)
    text = off.machine.paths.serial_log.read_bytes()[since:]
    assert b"nroll" not in text, "keys are enrolled once"

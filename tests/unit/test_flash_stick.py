"""`imgbuild flash --installer`: what a stick takes along, and where it lies there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.core.process import Runner
from builder.flash.carried import Carried, find_carried
from builder.flash.devices import find_device
from builder.flash.stick import Stick, check_installer, make_stick
from builder.vm.gpt import Partition, partitions
from tests.unit.hostile import Key
from tests.unit.images import manifest
from tests.unit.resolve_project import files
from tests.unit.test_cli import Call, call
from tests.unit.update_node import IMAGE, NEW, Server, Texts, blocks

__all__ = ["call", "files"]

PROGRAMS = ("lsblk", "wipefs", "sfdisk", "mkfs.vfat", "mmd", "mcopy", "mke2fs", "debugfs")
pytestmark = pytest.mark.allow_commands(*PROGRAMS, "zstd", "gpg", "gpgconf", "gpgv", "bwrap")
MIB = 1 << 20
LAYER = hashlib.sha256(b"layer").hexdigest()
NEEDED = {
    "channels": f"channels/{IMAGE}/stable.json.asc",
    "layer": f"layers/{LAYER}.erofs",
    **{
        name: f"{IMAGE}/{NEW}/{name}"
        for name in (
            *("SHA256SUMS", "SHA256SUMS.gpg", "manifest.json", "release.json"),
            *("root.erofs.zst", "root.verity.zst", "uki.efi.zst"),
        )
    },
}
SURE = ("--yes", "--serial", "none", "--erase")


@dataclass(frozen=True)
class Repository:
    folder: Path
    key: Path

    @property
    def version(self) -> Path:
        return self.folder / IMAGE / NEW

    def carried(self, work: Path, channel: str | None = None, key: Path | None = None) -> Carried:
        return find_carried(Runner(), self.version, channel, key, work)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Key]:
    made = Key.make(tmp_path_factory.mktemp("keys") / "site")
    yield made
    made.forget()


def whole(texts: Texts) -> None:
    """Let the manifest say all that a built image's does."""
    made = manifest(NEW).model_dump(mode="json")
    said = texts["manifest.json"]
    keep = {name: said[name] for name in ("image_id", "version", "root_hash", "payload")}
    said.update({**made, **keep})


@pytest.fixture
def repository(tmp_path: Path, key: Key) -> Repository:
    """A repository with one version, a layer, and much that no stick needs."""
    server = Server(tmp_path, sign=key.sign, layers={LAYER: blocks("layer", 4)})
    server.put(NEW, whole)
    for name, data in server.files.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "key.gpg").write_bytes(key.public)
    return Repository(tmp_path / "repository", tmp_path / "key.gpg")


@pytest.fixture
def installer(tmp_path: Path) -> Path:
    file = tmp_path / "installer.efi"
    file.write_bytes(b"MZ" + bytes(5000) + b"panic=30 console=ttyS0")
    return file


def test_a_stick_takes_what_an_installation_needs(repository: Repository, tmp_path: Path) -> None:
    found = repository.carried(tmp_path, key=repository.key)
    assert set(found.files) == set(NEEDED.values())
    assert (found.channel, found.title) == ("stable", f"{IMAGE} {NEW}")


@pytest.mark.parametrize("name", [name for name in NEEDED if name != "channels"])
def test_what_is_damaged_is_not_taken(repository: Repository, tmp_path: Path, name: str) -> None:
    path = repository.folder / NEEDED[name]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError) as caught:
        repository.carried(tmp_path, key=repository.key)
    assert caught.value.hint


def test_what_another_key_has_signed_is_not_taken(repository: Repository, tmp_path: Path) -> None:
    other = Key.make(tmp_path / "other")
    (tmp_path / "other.gpg").write_bytes(other.public)
    other.forget()
    with pytest.raises(UserError, match="its key is not in the keyring"):
        repository.carried(tmp_path, key=tmp_path / "other.gpg")
    assert repository.carried(tmp_path).channel == "stable"


def test_a_channel_must_name_the_version(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"channel canary does not name {NEW}"):
        repository.carried(tmp_path, "canary")
    (repository.folder / NEEDED["channels"]).unlink()
    with pytest.raises(UserError, match=f"no channel names {NEW}") as caught:
        repository.carried(tmp_path)
    assert "imgbuild promote" in str(caught.value.hint)


def test_a_built_folder_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no released version"):
        find_carried(Runner(), tmp_path, None, None, tmp_path)


def test_an_installer_must_be_one(tmp_path: Path, installer: Path) -> None:
    check_installer(installer)
    with pytest.raises(UserError, match="no installer"):
        check_installer(tmp_path / "none")
    installer.write_bytes(installer.read_bytes() + b" imgnode.order=http://x")
    with pytest.raises(UserError, match="never look at the stick"):
        check_installer(installer)
    installer.write_text("#!/bin/sh")
    with pytest.raises(UserError, match="no EFI program"):
        check_installer(installer)


def boot_program(stick: Stick, esp: Partition, work: Path) -> bytes:
    boots = work / "boots.efi"
    place = f"{stick.file}@@{esp.offset}"
    Runner().run(["mcopy", "-i", place, "::/EFI/BOOT/BOOTX64.EFI", boots])
    return boots.read_bytes()


def test_the_stick_holds_it_all(repository: Repository, tmp_path: Path, installer: Path) -> None:
    found = repository.carried(tmp_path)
    made = make_stick(Runner(), installer, found, {"image_id": IMAGE}, tmp_path)
    esp, release = partitions(Runner(), made.file)
    assert (esp.name, release.name) == ("imgbuild-installer", "imgbuild-release")
    assert (made.least_bytes, made.title) == (
        made.file.stat().st_size,
        f"installer of {IMAGE} {NEW}",
    )
    assert boot_program(made, esp, tmp_path) == installer.read_bytes()
    part = tmp_path / "release.ext4"
    with made.file.open("rb") as stream:
        stream.seek(release.offset)
        part.write_bytes(stream.read(release.size))
    for name, path in found.files.items():
        copy = tmp_path / "copy"
        Runner().run(["debugfs", "-R", f"dump /releases/{name} {copy}", part])
        assert copy.read_bytes() == path.read_bytes(), name
    listed = Runner().run(["debugfs", "-R", "stat /order.json", part]).stdout
    assert "Mode:  0600" in listed


def test_a_stick_of_any_size_boots(repository: Repository, tmp_path: Path, installer: Path) -> None:
    found = repository.carried(tmp_path)
    large = tmp_path / "large.erofs"
    large.touch()
    os.truncate(large, 3 << 30)
    found = replace(found, files={**found.files, f"layers/{'f' * 64}.erofs": large})
    made = make_stick(Runner(), installer, found, {"image_id": IMAGE}, tmp_path)
    esp = partitions(Runner(), made.file)[0]
    assert boot_program(made, esp, tmp_path) == installer.read_bytes()


def test_the_command(call: Call, repository: Repository, installer: Path, tmp_path: Path) -> None:
    seed, disk = tmp_path / "node.yaml", tmp_path / "disk"
    seed.write_text("#cloud-config\nhostname: gpu-07\n")
    with disk.open("wb") as stream:
        stream.truncate(128 * MIB)
    words = ("flash", str(disk), "--installer", str(installer), "--image", str(repository.version))
    more = ("--seed", str(seed), "--disk", "serial=S9", "--wipe", "--keyring", str(repository.key))
    ended = call(*words, *more, *SURE)
    assert ended.code == 0, ended
    assert f"installer of {IMAGE} {NEW}, verified" in ended.err
    data = disk.read_bytes()
    start = data.index(b'{\n "image_id"')
    order = json.loads(data[start : data.index(b"\n}", start) + 2])
    assert (order["disk"], order["wipe"], order["then"]) == ("serial=S9", True, "poweroff")
    assert "hostname: gpu-07" in order["seed"]["user-data"]
    assert find_device(Runner(), disk).contents == "an installer"
    again = call(*words, *SURE[:3])
    assert again.code == 0, again


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--disk", "biggest"), "not understood at 'biggest'"),
        (("--report", "ftp://x"), "report"),
        (("--channel", "none"), "does not name"),
        (("--image", "/nowhere"), "no released version"),
    ],
)
def test_refused_before_anything_is_written(
    call: Call,
    repository: Repository,
    installer: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    told: str,
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    words = ("flash", str(disk), "--installer", str(installer), "--image", str(repository.version))
    ended = call(*words, *SURE, *more)
    assert ended.code == 2
    assert told in ended.err
    assert not any(disk.read_bytes())


def test_an_option_of_installers_alone(call: Call, tmp_path: Path) -> None:
    ended = call("flash", str(tmp_path / "disk"), "--wipe")
    assert (ended.code, "--wipe means nothing without --installer" in ended.err) == (2, True)


def test_a_stick_that_is_too_small(
    call: Call, repository: Repository, installer: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    words = ("flash", str(disk), "--installer", str(installer), "--image", str(repository.version))
    ended = call(*words, *SURE)
    assert (ended.code, "take a larger disk" in ended.err) == (2, True)

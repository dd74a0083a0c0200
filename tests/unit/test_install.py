"""The installer against a release server on the loopback interface, with a file as the disk."""

from __future__ import annotations

import hashlib
import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imgnode import process
from imgnode.download import Patience
from imgnode.install import run, table, vfat
from imgnode.install import var as var_
from imgnode.install.run import install
from imgnode.release.signature import KEYRING
from imgnode.update.refused import Refused
from tests.unit import hostile
from tests.unit.hostile import Key, Site
from tests.unit.install_room import (
    PROGRAMS,
    SEED,
    SIZE,
    Machine,
    encrypting,
    listening,
    with_disk,
)
from tests.unit.update_node import IMAGE, NEW, NEW_ROOT, NEW_UKI, Server, blocks

pytestmark = pytest.mark.allow_commands(*PROGRAMS)
LAYER = hashlib.sha256(b"layer").hexdigest()
ENTRY = f"{IMAGE}_{NEW}+3.efi"
_connect = socket.socket.connect


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Key]:
    made = Key.make(tmp_path_factory.mktemp("keys") / "site")
    yield made
    made.forget()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: an installation flushes often."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


@pytest.fixture
def machine(place: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose disk is empty, and whose installer trusts `key`."""
    root = place / "root"
    loader = root / "usr/lib/imgnode/esp/EFI/BOOT"
    loader.mkdir(parents=True)
    (loader / "BOOTX64.EFI").write_text("loader")
    (root / KEYRING).write_bytes(key.public)
    disk = place / "disk"
    with disk.open("wb") as stream:
        stream.truncate(SIZE)
    server = Server(place, sign=key.sign, layers={LAYER: blocks("layer", 4)})
    server.put(NEW, with_disk)
    made = Machine(root, disk, server)
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(var_, "mounted", made.mounted)
    monkeypatch.setattr(run, "list_disks", made.disks)
    monkeypatch.setattr(Patience, "gone", True)
    return made


@pytest.fixture
def site(machine: Machine) -> Iterator[Site]:
    with hostile.serving(machine.server.files) as made:
        yield made


def installed(machine: Machine) -> bool:
    """Assert that the disk holds the new version, whole; tell whether it boots."""
    layout = machine.layout
    assert machine.read(layout.roots[0].offset, len(NEW_ROOT)) == NEW_ROOT
    assert machine.labels() == [f"{IMAGE}_{NEW}", "_empty"]
    for name, text in SEED.items():
        assert machine.fat(layout.cidata.offset, f"::{name}") == text
    assert (machine.disk.with_name("var") / f"lib/imgnode/layers/{LAYER}.erofs").is_file()
    assert machine.fat(layout.esp.offset, "::/EFI/BOOT/BOOTX64.EFI") == "loader"
    return machine.entries() == [ENTRY]


def test_an_empty_disk_becomes_a_node(machine: Machine, site: Site) -> None:
    assert install(machine.order(site.address), machine.reporter(), machine.root).version == NEW
    assert installed(machine)
    told = json.loads(process.run(["sfdisk", "--json", str(machine.disk)], timeout_s=60).stdout)
    rows = told["partitiontable"]["partitions"]
    release = json.loads(machine.server.files[f"{IMAGE}/{NEW}/release.json"])
    uuids = "".join(row["uuid"].replace("-", "").lower() for row in rows[1:3])
    assert uuids == release["root_hash"]
    place = f"{machine.disk}@@{machine.layout.esp.offset}"
    target = machine.root / "uki"
    argv = ["mcopy", "-i", place, f"::/EFI/Linux/{ENTRY}", str(target)]
    assert process.run(argv, timeout_s=60).rc == 0
    assert target.read_bytes() == NEW_UKI
    assert not list((machine.root / "run/imgnode/install").glob("*seed*"))


def test_again_keeps_var_and_fetches_no_part(machine: Machine, site: Site) -> None:
    order = machine.order(site.address)
    install(order, machine.reporter(), machine.root)
    site.asked.clear()
    machine.ran.clear()
    install(order, machine.reporter(), machine.root)
    assert installed(machine)
    assert not any("root.erofs" in path or "layers/" in path for path in site.asked)
    assert "systemd-repart" not in {argv[0] for argv in machine.ran}


def test_wipe_makes_everything_anew(machine: Machine, site: Site) -> None:
    install(machine.order(site.address), machine.reporter(), machine.root)
    machine.ran.clear()
    install(machine.order(site.address, wipe=True), machine.reporter(), machine.root)
    assert installed(machine)
    assert "systemd-repart" in {argv[0] for argv in machine.ran}


def test_foreign_data_is_kept_until_told(machine: Machine, site: Site) -> None:
    process.run(["mkfs.ext4", "-q", "-F", str(machine.disk)], timeout_s=60)
    before = machine.disk.read_bytes()
    with pytest.raises(Refused, match="holds data that is not an image's") as caught:
        install(machine.order(site.address), machine.reporter(), machine.root)
    assert caught.value.kind == "foreign"
    assert machine.disk.read_bytes() == before
    install(machine.order(site.address, wipe=True), machine.reporter(), machine.root)
    assert installed(machine)


def test_a_table_without_a_var_is_made_anew(machine: Machine, site: Site) -> None:
    """A power cut while the table was made."""
    install(machine.order(site.address), machine.reporter(), machine.root)
    with machine.disk.open("r+b") as stream:
        stream.seek(machine.var.offset)
        stream.write(bytes(4096))
    machine.ran.clear()
    install(machine.order(site.address), machine.reporter(), machine.root)
    assert installed(machine)
    assert "systemd-repart" in {argv[0] for argv in machine.ran}


def test_a_node_that_encrypts_var_makes_it_itself(machine: Machine, site: Site) -> None:
    order = encrypting(machine, site)
    for _ in range(2):  # what has no var yet may be installed again
        install(order, machine.reporter(), machine.root)
        assert machine.layout.var is None
        assert machine.entries() == [ENTRY]
    assert machine.mounts == 0


def test_an_encrypted_var_is_kept_where_it_is_wanted(machine: Machine, site: Site) -> None:
    install(machine.order(site.address), machine.reporter(), machine.root)
    order = encrypting(machine, site)
    with pytest.raises(Refused, match="var is not encrypted, and this version wants it to be"):
        install(order, machine.reporter(), machine.root)
    before, mounts = machine.encrypt(), machine.mounts
    machine.ran.clear()
    install(order, machine.reporter(), machine.root)
    assert "systemd-repart" not in {argv[0] for argv in machine.ran}
    assert (machine.head(), machine.mounts, machine.entries()) == (before, mounts, [ENTRY])
    machine.server.put(NEW, with_disk)
    site.files.update(machine.server.files)
    with pytest.raises(Refused, match="var is encrypted, and this version wants it not to be"):
        install(order, machine.reporter(), machine.root)


def test_a_table_that_was_never_finished_is_made_anew(machine: Machine, site: Site) -> None:
    """Its `var` may look whole, and not be: a drive's cache keeps what it likes."""
    install(machine.order(site.address), machine.reporter(), machine.root)
    var = str(machine.var.number)
    process.run(["sfdisk", "--part-label", str(machine.disk), var, "_var"], timeout_s=60)
    machine.ran.clear()
    install(machine.order(site.address), machine.reporter(), machine.root)
    assert installed(machine)
    assert machine.var.label == "var"
    assert "systemd-repart" in {argv[0] for argv in machine.ran}


@pytest.mark.parametrize("mib", [64, 256, 512])
def test_an_esp_is_formatted_for_its_own_size(place: Path, mib: int) -> None:
    """mkfs.vfat would go by the disk's, and make what mtools and firmware read as another kind."""
    disk = place / "large"
    with disk.open("wb") as stream:
        stream.truncate(64 << 30)
    esp = table.Partition(1, "esp", "esp", 1 << 20, mib << 20)
    for _ in range(2):
        vfat.forget_entries(disk, esp)
    listed = process.run(["mdir", "-b", "-i", f"{disk}@@{1 << 20}", "::/EFI"], timeout_s=60)
    assert listed.stdout.strip() == "::/EFI/Linux/"


def test_a_table_of_which_a_power_cut_left_a_piece(machine: Machine, site: Site) -> None:
    """A protective MBR alone looks like a foreign table; that it is ours stands beside it."""
    genuine = machine._repart

    def cut(folder: Path) -> process.Finished:
        genuine(folder)
        with machine.disk.open("r+b") as stream:
            stream.seek(512)
            stream.write(bytes(33 * 512))
            stream.seek(-33 * 512, 2)
            stream.write(bytes(33 * 512))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "_repart", cut)
        with pytest.raises(KeyboardInterrupt):
            install(machine.order(site.address), machine.reporter(), machine.root)
    assert table.read_layout(machine.disk) is None
    assert not table.is_empty(machine.disk)
    install(machine.order(site.address), machine.reporter(), machine.root)
    assert installed(machine)
    assert not table.is_half_made(machine.disk)


def test_slots_too_small_are_told_and_the_old_version_stays(machine: Machine, site: Site) -> None:
    install(machine.order(site.address), machine.reporter(), machine.root)
    small = machine.layout
    roots = tuple(replace(one, bytes=4096) for one in small.roots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "read_layout", lambda _: replace(small, roots=roots))
        with pytest.raises(Refused, match="its slot 4096") as caught:
            install(machine.order(site.address), machine.reporter(), machine.root)
    assert caught.value.kind == "too-large"
    assert installed(machine)


LIES: list[tuple[str, hostile.Answer, str]] = [
    ("stable.json.asc", hostile.truncated, "fetch"),
    ("SHA256SUMS", hostile.short, "damaged"),
    ("root.erofs.zst", hostile.short, "fetch"),
    ("root.erofs.zst", hostile.endless, "damaged"),
    ("root.verity.zst", hostile.truncated, "fetch"),
    ("uki.efi.zst", hostile.short, "fetch"),
    (f"{LAYER}.erofs", hostile.short, "fetch"),
]


@pytest.mark.parametrize(("name", "lie", "kind"), LIES)
def test_a_server_that_lies(
    machine: Machine, site: Site, name: str, lie: hostile.Answer, kind: str
) -> None:
    """Nothing boots then; an honest server is taken at the next try."""
    site.lies[name] = lie
    with pytest.raises(Refused) as caught:
        install(machine.order(site.address), machine.reporter(), machine.root)
    assert caught.value.kind == kind, caught.value
    if machine.read(512, 8) == b"EFI PART":
        assert machine.entries() == []
    site.lies.clear()
    install(machine.order(site.address), machine.reporter(), machine.root)
    assert installed(machine)


@pytest.mark.parametrize("name", ["root.erofs.zst", "root.verity.zst", "uki.efi.zst"])
def test_a_flipped_bit(machine: Machine, site: Site, name: str) -> None:
    path = f"{IMAGE}/{NEW}/{name}"
    good = machine.server.files[path]
    site.files[path] = good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]
    with pytest.raises(Refused) as caught:
        install(machine.order(site.address), machine.reporter(), machine.root)
    assert caught.value.kind == "damaged"
    assert machine.entries() == []
    assert f"{IMAGE}_{NEW}" not in machine.labels() or name == "uki.efi.zst"


def test_another_key_writes_nothing(machine: Machine, site: Site, tmp_path: Path) -> None:
    other = Key.make(tmp_path / "other")
    (machine.root / KEYRING).write_bytes(other.public)
    other.forget()
    with pytest.raises(Refused) as caught:
        install(machine.order(site.address), machine.reporter(), machine.root)
    assert caught.value.kind == "signature"
    assert not any(machine.disk.read_bytes())


STEPS: list[tuple[object, str]] = [
    (run, "stream"),
    (table, "name_slot"),
    (var_, "bring_layers"),
    (vfat, "write_seed"),
    (vfat, "put_tree"),
    (vfat, "put_entry"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("module", "name"), STEPS)
def test_cut_off_at_any_step(
    machine: Machine,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    after: bool,
) -> None:
    """An old version is on the disk: it boots, or nothing does, until the new one is whole."""
    order = machine.order(site.address)
    install(order, machine.reporter(), machine.root)
    with machine.disk.open("r+b") as stream:  # an older root
        stream.seek(machine.layout.roots[0].offset)
        stream.write(b"old")
    genuine: Callable[..., None] = getattr(module, name)

    def cut(*words: object, **options: object) -> None:
        if after:
            genuine(*words, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, name, cut)
        with pytest.raises(KeyboardInterrupt):
            install(order, machine.reporter(), machine.root)
    assert machine.entries() == ([ENTRY] if (name, after) == ("put_entry", True) else [])
    install(order, machine.reporter(), machine.root)
    assert installed(machine)


def test_a_connection_that_breaks_is_taken_up(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def once(web: hostile.Web, data: bytes | None) -> None:
        asked.append(web.headers.get("Range", ""))
        (hostile.truncated if len(asked) == 1 else hostile.honest)(web, data)

    site.lies["root.erofs.zst"] = once
    monkeypatch.setattr(Patience, "gone", False)
    monkeypatch.setattr("imgnode.install.stream._PAUSE_S", 0.01)
    install(machine.order(site.address), machine.reporter(), machine.root)
    assert installed(machine)
    assert asked[0] == ""
    assert asked[1].startswith("bytes=")


def test_an_installer_without_a_boot_loader_does_not_begin(machine: Machine, site: Site) -> None:
    (machine.root / "usr/lib/imgnode/esp").rename(machine.root / "gone")
    with pytest.raises(FileNotFoundError):
        install(machine.order(site.address), machine.reporter(), machine.root)
    assert not any(machine.disk.read_bytes())


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process itself connect to the loopback interface."""

    def look_up(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert host == "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(socket.socket, "connect", _connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("imgnode.install.report._EVERY_S", 0.0)


@pytest.mark.usefixtures("loopback")
def test_progress_is_posted(machine: Machine, site: Site) -> None:
    with listening(machine.posts) as address:
        reporter = machine.reporter(address)
        install(machine.order(site.address), reporter, machine.root)
        reporter.end(text=NEW)
    phases = list(dict.fromkeys(one["phase"] for one in machine.posts))
    assert phases == [
        *("disk", "release", "table", "root.erofs", "root.verity"),
        *("layers", "seed", "uki.efi", "done"),
    ]
    last = machine.posts[-1]
    assert (last["version"], last["node"]["serial"], last["error"]) == (NEW, "S1", None)
    root = [one for one in machine.posts if one["phase"] == "root.erofs"][-1]
    assert 0 < root["done"] == root["total"]


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("up", [True, False])
def test_a_server_that_takes_no_reports_is_no_trouble(
    machine: Machine, site: Site, up: bool
) -> None:
    told: list[str] = []
    with listening(machine.posts, 500) as address:
        reporter = replace(machine.reporter(address), say=told.append)
        if up:
            install(machine.order(site.address), reporter, machine.root)
    if not up:
        install(machine.order(site.address), reporter, machine.root)
    assert installed(machine)
    assert any("cannot be reported" in line for line in told)

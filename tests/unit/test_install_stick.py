"""The installer on a stick: where its order lies, and the firmware's entry for the new disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imgnode import download, process
from imgnode.install import __main__ as entry
from imgnode.install import consoles, firmware, medium
from imgnode.install.disks import Disk, check_rule
from imgnode.install.order import parse_order
from imgnode.install.report import Identity, Reporter
from imgnode.install.table import Partition, Wanted, check_size, least_bytes
from imgnode.payload import LayerFile
from imgnode.update.refused import Refused

GB = 10**9
ORDER = {"image_id": "imgbuild-a100", "disk": "largest", "then": "poweroff"}
ESP = Partition(3, "esp", "esp", 1 << 20, 64 << 20)


@dataclass
class Programs:
    """Plays programs by their name, and keeps what was called."""

    answers: dict[str, process.Finished] = field(default_factory=dict)
    called: list[list[str]] = field(default_factory=list)
    mount: Callable[[Path], None] = lambda _: None

    def run(self, argv: list[str], **_: object) -> process.Finished:
        self.called.append(argv)
        if argv[0] == "mount":
            self.mount(Path(argv[-1]))
        return self.answers.get(argv[0], process.Finished(0, "", ""))


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs()
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(medium, "_APPEARS_S", 0.0)
    return made


def disks(*labels: str) -> process.Finished:
    rows = [
        {"path": f"/dev/sda{number}", "partlabel": label} for number, label in enumerate(labels)
    ]
    whole = {"path": "/dev/sda", "partlabel": None, "children": rows}
    return process.Finished(0, json.dumps({"blockdevices": [whole]}), "")


def put_order(folder: Path, text: str) -> None:
    (folder / medium.ORDER_FILE).write_text(text)


def machine(tmp_path: Path, cmdline: str = "quiet ximgnode.order=http://a") -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(cmdline)
    return tmp_path


def test_without_an_address_the_order_lies_on_the_stick(tmp_path: Path, programs: Programs) -> None:
    programs.answers["lsblk"] = disks("imgbuild-installer", medium.LABEL)
    programs.mount = lambda point: put_order(point, json.dumps(ORDER))
    found = entry.read_order(machine(tmp_path))
    assert found.releases == f"file://{tmp_path}/run/imgnode/medium/releases"
    assert (found.image_id, found.then) == ("imgbuild-a100", "poweroff")
    assert next(argv[:4] for argv in programs.called if argv[0] == "mount") == [
        "mount",
        "-o",
        "ro",
        "/dev/sda1",
    ]


def test_an_order_on_a_stick_may_name_a_server() -> None:
    text = json.dumps({**ORDER, "releases": "http://site/imgbuild"})
    assert parse_order(text, "file:///x").releases == "http://site/imgbuild"
    with pytest.raises(ValueError, match="releases"):
        parse_order(json.dumps({**ORDER, "releases": "file:///etc"}), "file:///x")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("esp",), "no disk has a partition"),
        ((medium.LABEL, medium.LABEL), "/dev/sda0, /dev/sda1"),
    ],
)
def test_no_stick_or_two(
    tmp_path: Path, programs: Programs, labels: tuple[str, ...], told: str
) -> None:
    programs.answers["lsblk"] = disks(*labels)
    with pytest.raises(Refused, match=told) as caught:
        entry.read_order(machine(tmp_path))
    assert caught.value.kind == "order"
    assert "mount" not in {argv[0] for argv in programs.called}


@pytest.mark.parametrize(
    ("order", "told"), [(None, "No such file"), ("{", "make the stick anew"), ("{}", "image_id")]
)
def test_a_stick_with_a_bad_order(
    tmp_path: Path, programs: Programs, order: str | None, told: str
) -> None:
    programs.answers["lsblk"] = disks(medium.LABEL)
    if order is not None:
        programs.mount = lambda point: put_order(point, order)
    with pytest.raises(Refused, match=told):
        entry.read_order(machine(tmp_path))


def test_a_stick_that_cannot_be_read(tmp_path: Path, programs: Programs) -> None:
    programs.answers["lsblk"] = disks(medium.LABEL)
    programs.answers["mount"] = process.Finished(32, "", "bad superblock\n")
    with pytest.raises(Refused, match="bad superblock.*take another"):
        entry.read_order(machine(tmp_path))


def test_a_server_is_asked_with_what_the_machine_is_known_by() -> None:
    known = Identity("S 1", "", ("52:54:00:00:00:01", "52:54:00:00:00:02"))
    query = "serial=S+1&mac=52%3A54%3A00%3A00%3A00%3A01&mac=52%3A54%3A00%3A00%3A00%3A02"
    assert entry.with_identity("http://a/order", known) == f"http://a/order?{query}"
    assert entry.with_identity("http://a/o?x=1", known) == f"http://a/o?x=1&{query}"
    assert entry.with_identity("http://a/order", Identity("", "", ())) == "http://a/order"


def test_only_the_medium_is_read_as_a_file() -> None:
    words = download.stream_argv("http://site/x", 0)
    assert words[words.index("--proto") + 1] == "=http,https"
    words = download.stream_argv("file:///run/x", 7)
    assert words[words.index("--proto") + 1] == "=file"


def efi(tmp_path: Path) -> Path:
    folder = tmp_path / "sys/firmware/efi/efivars"
    folder.mkdir(parents=True)
    (folder / "BootOrder-8be4df61").touch()
    return tmp_path


def test_firmware_gets_one_entry(tmp_path: Path, programs: Programs) -> None:
    listing = "BootOrder: 0001,0002\nBoot0001* imgbuild\tHD(1,GPT,x)\nBoot0002* imgbuilder\tx\n"
    programs.answers["efibootmgr"] = process.Finished(0, listing, "")
    assert firmware.set_entry(Path("/dev/nvme0n1"), ESP, efi(tmp_path)) is None
    gone, made = (" ".join(argv) for argv in programs.called[1:])
    assert gone == "efibootmgr --quiet --bootnum 0001 --delete-bootnum"
    assert "--disk /dev/nvme0n1 --part 3 --label imgbuild" in made
    assert made.endswith(r"--loader \EFI\systemd\systemd-bootx64.efi")


def test_without_variables_there_is_no_entry(tmp_path: Path, programs: Programs) -> None:
    said = firmware.set_entry(Path("/dev/sda"), ESP, tmp_path)
    assert said
    assert "not started by UEFI" in said
    assert programs.called == []


def test_firmware_that_takes_no_entry(tmp_path: Path, programs: Programs) -> None:
    programs.answers["efibootmgr"] = process.Finished(5, "", "No space left on device\n")
    assert firmware.set_entry(Path("/dev/sda"), ESP, efi(tmp_path)) == "No space left on device"


def test_a_disk_must_have_room_for_all_of_it() -> None:
    wanted = (Wanted("esp", "esp", GB),)
    layers = (LayerFile("a" * 64, 2 * GB, 2 * GB, "b" * 64),)
    own = least_bytes({"disk": {}}, wanted, layers)
    assert 3.1 * GB < own < 3.2 * GB
    assert least_bytes({"disk": {"least_bytes": 5 * GB}}, wanted, layers) == 5 * GB
    check_size(Disk(Path("/dev/sda"), 5 * GB), 5 * GB)
    with pytest.raises(Refused, match="has 4.0 GB, this image needs 5.0 GB") as caught:
        check_size(Disk(Path("/dev/sda"), 4 * GB), 5 * GB)
    assert caught.value.kind == "too-large"


def test_rules_are_judged_before_there_are_disks() -> None:
    check_rule("size=400-1000,smallest")
    with pytest.raises(Refused, match="not understood at 'biggest'"):
        check_rule("biggest")


def test_every_console_is_told(tmp_path: Path) -> None:
    active = tmp_path / "sys/class/tty/console/active"
    active.parent.mkdir(parents=True)
    active.write_text("tty0 ttyS0 gone\n")
    (tmp_path / "dev").mkdir()
    for name in ("tty0", "ttyS0"):
        (tmp_path / "dev" / name).touch()
    consoles.tell("install: seed", tmp_path)
    consoles.tell("install: seed", tmp_path / "nowhere")
    for name in ("tty0", "ttyS0"):
        assert (tmp_path / "dev" / name).read_bytes() == b"install: seed\r\n"


def test_the_console_hears_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    reporter = Reporter(None, Identity("", "", ()), told.append)
    tell = reporter.begin("root.erofs", 200)
    for _ in range(3):
        clock[0] += 6
        tell(50)
    assert told == ["root.erofs", "root.erofs 50 %"]

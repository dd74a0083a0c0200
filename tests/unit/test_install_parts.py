"""The installer's parts: orders, rules for disks, what a manifest may ask for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imgnode import process
from imgnode.install import __main__ as entry
from imgnode.install.disks import Disk, choose, list_disks
from imgnode.install.order import Order, parse_order
from imgnode.install.report import read_identity
from imgnode.install.table import read_wanted
from imgnode.update.refused import Refused

GB = 10**9
ORDER = {"releases": "http://site/imgbuild/", "image_id": "imgbuild-a100"}


def disk(name: str, size: int, serial: str = "", transport: str = "") -> Disk:
    return Disk(Path("/dev") / name, size * GB, "Model", serial, transport)


DISKS = (
    disk("nvme0n1", 960, "A", "nvme"),
    disk("nvme1n1", 3840, "B", "nvme"),
    disk("sda", 8000, "C", "sata"),
    disk("sdb", 240, "D", "sata"),
)


@pytest.mark.parametrize(
    ("rule", "serial"),
    [
        ("largest-nvme", "B"),
        ("smallest-nvme", "A"),
        ("largest", "C"),
        ("smallest", "D"),
        ("serial=D", "D"),
        ("size=200-300", "D"),
        ("size=900-4000,smallest", "A"),
        ("size=900-9000, largest", "C"),
        ("serial=A,largest-nvme", "A"),
    ],
)
def test_a_rule_means_one_disk(rule: str, serial: str) -> None:
    assert choose(DISKS, rule).serial == serial


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("serial=X", "no disk fits"),
        ("serial=", "no disk fits"),
        ("size=900-4000", "2 disks fit"),
        ("size=1-2", "no disk fits"),
        ("largest-sata", "not understood at 'largest-sata'"),
        ("", "not understood"),
        ("size=big", "not understood"),
    ],
)
def test_nothing_is_guessed(rule: str, told: str) -> None:
    with pytest.raises(Refused, match=told) as caught:
        choose(DISKS, rule)
    assert caught.value.kind == "disk"


def test_two_disks_of_one_size_need_a_serial() -> None:
    twins = (disk("nvme0n1", 960, "A", "nvme"), disk("nvme1n1", 960, "B", "nvme"))
    with pytest.raises(Refused, match="2 disks fit.*serial A; .*serial B"):
        choose(twins, "largest-nvme")
    with pytest.raises(Refused, match="no disk at all"):
        choose((), "largest-nvme")


def row(name: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    values = {
        "name": name,
        "path": f"/dev/{name}",
        "type": "disk",
        "size": 960 * GB,
        "model": "Fast ",
        "serial": name,
        "rm": False,
        "ro": False,
        "tran": "nvme",
        "mountpoints": [None],
        "log-sec": 512,
    }
    return {**values, **changes}


def test_only_free_internal_disks_are_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = row("p1", type="part", mountpoints=["/run/x"])
    rows = [
        row("good"),
        row("stick", rm=True),
        row("fixed", ro=True),
        row("none", size=0),
        row("sectors", **{"log-sec": 4096}),
        row("loop0", type="loop"),
        row("used", children=[mounted]),
        row("self", mountpoints=["/"]),
        row("parts", children=[row("p2", type="part")]),
    ]
    told = process.Finished(0, json.dumps({"blockdevices": rows}), "")
    monkeypatch.setattr(process, "run", lambda *_, **__: told)
    assert [one.path.name for one in list_disks()] == ["good", "parts"]


def test_an_order() -> None:
    found = parse_order(json.dumps(ORDER))
    assert found == Order("http://site/imgbuild", "imgbuild-a100")
    assert (found.disk, found.wipe, found.then) == ("largest-nvme", False, "reboot")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"releases": "file:///etc"}, "releases"),
        ({"releases": "http://a b"}, "releases"),
        ({"image_id": "../x"}, "image_id"),
        ({"channel": "../x"}, "channel"),
        ({"report": "ftp://x"}, "report"),
        ({"wipe": "no"}, "wipe"),
        ({"then": "explode"}, "then"),
        ({"seed": {"../passwd": "x"}}, "seed"),
        ({"seed": {"user-data": 7}}, "seed"),
        ({"seed": ["x"]}, "seed"),
        ({"wype": True}, "wype: not known"),
    ],
)
def test_a_bad_order(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_order(json.dumps({**ORDER, **change}))
    with pytest.raises(ValueError, match="JSON object"):
        parse_order("[]")


@pytest.mark.parametrize(
    "change",
    [
        {"type": "swap"},
        {"label": "x\nCopyFiles=/etc/shadow:/"},
        {"label": ""},
        {"bytes": -4096},
        {"bytes": 4097},
        {"bytes": "many"},
        {"label": None, "type": None},
    ],
)
def test_a_manifest_that_asks_for_other_partitions(change: dict[str, Any]) -> None:
    """It is signed; all the same nothing of it becomes another line for systemd-repart."""
    good = {"type": "esp", "label": "esp", "bytes": 4096}
    assert read_wanted({"disk": {"partitions": [good, {"type": "var"}]}})
    with pytest.raises(Refused) as caught:
        read_wanted({"disk": {"partitions": [{**good, **change}]}})
    assert caught.value.kind == "damaged"


def test_a_manifest_without_partitions() -> None:
    with pytest.raises(Refused, match="cannot be understood"):
        read_wanted({})


def test_a_machine_is_known_by_what_the_firmware_says(tmp_path: Path) -> None:
    for name, text in (
        ("class/dmi/id/product_serial", "S1\n"),
        ("class/net/eth0/address", "52:54:00:00:00:01\n"),
        ("class/net/lo/address", "00:00:00:00:00:00\n"),
    ):
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(text)
    found = read_identity(tmp_path)
    assert (found.serial, found.uuid, found.macs) == ("S1", "", ("52:54:00:00:00:01",))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No console of this host is written to."""
    monkeypatch.setattr(entry, "tell", lambda _: None)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is there at once."""
    monkeypatch.setattr(process, "run", lambda *_, **__: process.Finished(0, "", ""))


def booted(tmp_path: Path, cmdline: str) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(cmdline)
    return tmp_path


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("answer", "told"),
    [(None, "connection refused"), ("{", "mend it"), ('{"image_id": "x"}', "releases")],
)
def test_an_order_that_cannot_be_had(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
    told: str,
) -> None:
    """It is told on the console, and tried again later."""

    def fetch(_: str, target: Path, __: int) -> str | None:
        if answer is None:
            return "connection refused"
        target.write_text(answer)
        return None

    monkeypatch.setattr(entry, "fetch_small", fetch)
    root = booted(tmp_path, "quiet imgnode.order=http://server/orders/x ro")
    assert entry.try_once(root) is None
    said = capsys.readouterr().out
    assert said.startswith("install: failed: http://server/orders/x: ")
    assert told in said
    assert not (root / "run/imgnode/order.json").exists()


@pytest.mark.usefixtures("online")
def test_an_order_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_: str, target: Path, __: int) -> None:
        target.write_text(json.dumps(ORDER))

    monkeypatch.setattr(entry, "fetch_small", fetch)
    monkeypatch.setattr(entry, "install", lambda *_: SimpleNamespace(version="2026.1"))
    found = entry.try_once(booted(tmp_path, "imgnode.order=http://a"))
    assert found == parse_order(json.dumps(ORDER))


@pytest.mark.usefixtures("online")
def test_a_machine_that_is_to_wait_says_so_and_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(_: str, target: Path, __: int) -> None:
        target.write_text('{"wait": "waits its turn"}')

    monkeypatch.setattr(entry, "fetch_small", fetch)
    assert entry.try_once(booted(tmp_path, "imgnode.order=http://a")) is None
    assert capsys.readouterr().out == "install: waits its turn\n"

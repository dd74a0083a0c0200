"""From an empty disk to a node: a stick boots, installs, and the disk comes up with its seed.

The tests follow one machine, in this order; its power fails once on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.core.process import Runner
from builder.vm.qemu import Accel, HostService
from tests.unit.install_room import listening
from tests.vm.installing import (
    GIB,
    INSTALL_S,
    VERSION,
    Bench,
    Workshop,
    bench,
    blank,
    open_workshop,
    second,
)
from tests.vm.versions import SERVER

pytestmark = [pytest.mark.vm, pytest.mark.timeout(2 * 3600)]
ENDED = r"install: (done|failed).*"
UP_S = 1200.0


@pytest.fixture(scope="module")
def workshop(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(runner, tmp_path_factory.mktemp("versions")) as made:
        yield made


@pytest.fixture(scope="module")
def posts() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def target(workshop: Workshop) -> Path:
    return blank(workshop.versions.place.top / "target.raw", 6 * GIB)


@pytest.fixture(scope="module")
def bench_(
    runner: Runner, workshop: Workshop, accel: Accel, target: Path, posts: list[dict[str, Any]]
) -> Iterator[Bench]:
    """A machine with an empty disk, a stick, and a server that takes its progress."""
    report = f"http://{SERVER}/progress"
    stick = workshop.stick("gpu-07", "--then", "reboot", "--report", report)
    with listening(posts) as address:
        services = (HostService(SERVER, 80, int(address.rpartition(":")[2].partition("/")[0])),)
        extra = second(stick, read_only=True)
        with bench(runner, workshop, accel, target, extra, services) as made:
            yield made


def say(bench: Bench, command: str) -> str:
    done = bench.ssh.run(command, UP_S)
    assert done.rc == 0, f"{command}: {done.rc}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def come_up(bench: Bench) -> None:
    bench.ssh.wait_ready(UP_S)
    bench.ssh.run("systemctl is-system-running --wait", UP_S)


def test_a_power_cut_costs_time_only(bench_: Bench) -> None:
    bench_.machine.wait_for("install: root.erofs", INSTALL_S)
    bench_.machine.power_cut()
    since = bench_.machine.start()
    ended = bench_.machine.wait_for(ENDED, INSTALL_S, since=since)
    assert ended.text.strip().endswith(f"done: {VERSION}"), ended.text
    come_up(bench_)


def test_the_node_has_its_version_and_its_seed(bench_: Bench) -> None:
    assert say(bench_, "hostname") == "gpu-07"
    status = json.loads(say(bench_, "sudo imgnode update status --json"))
    assert status["running"] == VERSION
    assert [one["tries"] for one in status["slots"] if one["entry"]] == [None]
    assert say(bench_, "systemctl --failed --no-legend --plain") == ""
    assert int(say(bench_, "findmnt --bytes -nro SIZE /var")) > 3 * GIB


def test_firmware_has_an_entry_for_the_disk(bench_: Bench) -> None:
    told = say(bench_, "sudo bootctl status --no-pager")
    listed = told.partition("Boot Loaders Listed in EFI Variables")[2]
    assert "Title: imgbuild" in listed, told
    assert "/EFI/systemd/systemd-bootx64.efi" in listed, told


def test_progress_was_posted(bench_: Bench, posts: list[dict[str, Any]]) -> None:
    assert bench_.machine.running()
    phases = {one["phase"] for one in posts}
    assert {"disk", "release", "table", "root.erofs", "seed", "uki.efi", "done"} <= phases
    assert posts[-1]["version"] == VERSION
    assert posts[-1]["node"]["macs"]


def test_reinstalling_keeps_var(bench_: Bench, workshop: Workshop, target: Path) -> None:
    machine = bench_.machine
    say(bench_, "echo kept | sudo tee /var/lib/imgnode/mark; sync")
    machine.poweroff(UP_S)
    usual = machine.config
    stick = workshop.stick("gpu-08")
    machine.config = replace(usual, disk=stick, extra=second(target))
    since = machine.start()
    machine.wait_exit(INSTALL_S)
    ended = machine.wait_for(ENDED, 1, since=since)
    assert ended.text.strip().endswith(f"done: {VERSION}"), ended.text
    assert machine.wait_for("install: keep", 1, since=since)
    machine.config = replace(usual, extra=())
    machine.start()
    come_up(bench_)
    assert say(bench_, "hostname") == "gpu-08"
    assert say(bench_, "cat /var/lib/imgnode/mark") == "kept"


def refused(runner: Runner, workshop: Workshop, accel: Accel, stick: Path, size: int) -> str:
    """Return why an installer writes nothing to an empty disk of a size."""
    disk = blank(workshop.versions.place.top / "refused.raw", size)
    try:
        with bench(runner, workshop, accel, stick, second(disk)) as made:
            said = made.machine.wait_for(ENDED, INSTALL_S).text
            made.machine.wait_for("next try in", 60)
        assert disk.stat().st_blocks == 0, "something was written"
    finally:
        disk.unlink()
    return said


def test_a_disk_that_is_too_small(runner: Runner, workshop: Workshop, accel: Accel) -> None:
    said = refused(runner, workshop, accel, workshop.stick("small"), GIB)
    assert "failed: /dev/vdb: has 1.1 GB, this image needs" in said
    assert "hint:" in said


def test_a_release_that_another_key_has_signed(
    runner: Runner, workshop: Workshop, accel: Accel
) -> None:
    versions, top = workshop.versions, workshop.versions.place.top
    versions.place.run("keys", "new", "--to", str(top / "other")).done()
    (secret,) = (top / "other").glob("*.secret.asc")
    image = str(top / "images" / VERSION)
    words = ("release", image, "--to", str(top / "foreign"), "--key", str(secret))
    versions.place.run(*words, "--channel", "stable").done()
    stick = workshop.stick("foreign", repository=top / "foreign")
    said = refused(runner, workshop, accel, stick, 6 * GIB)
    assert "its key is not in the keyring" in said
    assert "trust nothing of that server" in said

"""From an empty disk to a node that serves: a stick boots, installs, the disk obeys its seed.

The tests follow one machine, in this order; its power fails once on the way. Its container is the
small box with a stand-in server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from builder.core.process import Runner
from builder.vm.qemu import API_PORT, Accel, HostService
from builder.vm.session import VmNode
from tests.unit.install_room import listening
from tests.vm.installing import (
    GIB,
    INSTALL_S,
    VERSION,
    Workshop,
    bench,
    blank,
    open_workshop,
    second,
)
from tests.vm.test_serving import judged, wait_serving
from tests.vm.versions import SERVER

pytestmark = [pytest.mark.vm, pytest.mark.timeout(2 * 3600)]
ENDED = r"install: (done|failed).*"
UP_S = 1200.0
MODELS = "/var/lib/imgnode/models"
LAYERS = "/var/lib/imgnode/layers"


@pytest.fixture(scope="module")
def workshop(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(runner, tmp_path_factory.mktemp("versions"), "boxed") as made:
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
) -> Iterator[VmNode]:
    """A machine with an empty disk, a stick, and a server that takes its progress."""
    report = f"http://{SERVER}/progress"
    seed = workshop.seed("gpu-07", inference={"model": "org/toy"})
    stick = workshop.stick(seed, "--then", "reboot", "--report", report)
    with listening(posts) as address:
        services = (HostService(SERVER, 80, int(address.rpartition(":")[2].partition("/")[0])),)
        extra = second(stick, read_only=True)
        with bench(runner, workshop, accel, target, extra, services) as made:
            yield made


def say(bench: VmNode, command: str) -> str:
    done = bench.ssh.run(command, UP_S)
    assert done.rc == 0, f"{command}: {done.rc}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def come_up(bench: VmNode) -> None:
    bench.ssh.wait_ready(UP_S)
    bench.ssh.run("systemctl is-system-running --wait", UP_S)


def served(bench: VmNode) -> tuple[str, str]:
    """Return the name under which a node serves its model, and what the model's files call it."""
    wait_serving(bench)
    address = f"http://127.0.0.1:{bench.machine.ports[API_PORT]}/v1/models"
    (one,) = requests.get(address, timeout=60).json()["data"]
    return one["id"], one["model_type"]


def layer_files(bench: VmNode) -> str:
    """Return a line for each layer file, which is another one when it was written anew."""
    return say(bench, f"sudo find {LAYERS} -type f -printf '%P %i %C@\\n' | sort")


def test_a_power_cut_costs_time_only(bench_: VmNode) -> None:
    bench_.machine.wait_for("install: root.erofs", INSTALL_S)
    bench_.machine.power_cut()
    since = bench_.machine.start()
    ended = bench_.machine.wait_for(ENDED, INSTALL_S, since=since)
    assert ended.text.strip().endswith(f"done: {VERSION}"), ended.text
    come_up(bench_)


def test_the_node_has_its_version_and_its_seed(bench_: VmNode) -> None:
    assert say(bench_, "hostname") == "gpu-07"
    status = json.loads(say(bench_, "sudo imgnode update status --json"))
    assert status["running"] == VERSION
    assert [one["tries"] for one in status["slots"] if one["entry"]] == [None]
    assert int(say(bench_, "findmnt --bytes -nro SIZE /var")) > 3 * GIB


def test_it_serves_the_model_of_its_seed(bench_: VmNode) -> None:
    assert served(bench_) == ("org/toy", "toy")
    told = judged(bench_)
    assert told["class"] == "ok"
    assert "serving org/toy, first token after" in told["text"]  # beside a note on the clock
    assert say(bench_, "systemctl --failed --no-legend --plain") == ""


def test_firmware_has_an_entry_for_the_disk(bench_: VmNode) -> None:
    told = say(bench_, "sudo bootctl status --no-pager")
    listed = told.partition("Boot Loaders Listed in EFI Variables")[2]
    assert "Title: imgbuild" in listed, told
    assert "/EFI/systemd/systemd-bootx64.efi" in listed, told


def test_progress_was_posted(bench_: VmNode, posts: list[dict[str, Any]]) -> None:
    assert bench_.machine.running()
    phases = {one["phase"] for one in posts}
    assert {"disk", "release", "table", "root.erofs", "seed", "uki.efi", "done"} <= phases
    assert posts[-1]["version"] == VERSION
    assert posts[-1]["node"]["macs"]


def test_reinstalling_keeps_models(bench_: VmNode, workshop: Workshop, target: Path) -> None:
    """The next seed wants a model that was put there by hand: no version carries it."""
    machine = bench_.machine
    mine = '{"model_type": "mine"}'
    text = f"install -D /dev/stdin {MODELS}/org--mine/config.json; sync"
    say(bench_, f"echo '{mine}' | sudo sh -c '{text}'")
    layers = layer_files(bench_)
    assert layers
    machine.poweroff(UP_S)
    usual = machine.config
    stick = workshop.stick(workshop.seed("gpu-08", inference={"model": "org/mine"}))
    machine.config = replace(usual, disk=stick, extra=second(target))
    since = machine.start()
    machine.wait_exit(INSTALL_S)
    ended = machine.wait_for(ENDED, 1, since=since)
    assert ended.text.strip().endswith(f"done: {VERSION}"), ended.text
    assert machine.wait_for("install: keep", 1, since=since)
    machine.config = replace(usual, extra=())
    since = machine.start()
    wait_serving(bench_, since=since)
    assert say(bench_, "hostname") == "gpu-08"
    assert served(bench_) == ("org/mine", "mine")
    assert layer_files(bench_) == layers


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
    said = refused(runner, workshop, accel, workshop.stick(workshop.seed("small")), GIB)
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
    stick = workshop.stick(workshop.seed("foreign"), repository=top / "foreign")
    said = refused(runner, workshop, accel, stick, 6 * GIB)
    assert "its key is not in the keyring" in said
    assert "trust nothing of that server" in said

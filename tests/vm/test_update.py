"""A node's life from version to version, from real releases over HTTP: one node, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.keep import keep_evidence
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from tests.powercut.judge import release_of
from tests.powercut.matrix import Matrix, table
from tests.powercut.recording import Recording
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, SEED, wait_settled
from tests.vm.cutnode import boot_and_update
from tests.vm.releases import Releases
from tests.vm.updates import reboots_into, refused, say, slots, status
from tests.vm.versions import SERVER, Versions, make_versions

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

FIRST, SECOND, BROKEN, PANIC = "2099.1", "2099.2", "2099.3", "2099.4"
CUTS = 40  # of its power the first update is tried with
BROKEN_UNIT = """\
[Unit]
Description=Breaks this version
[Service]
Type=oneshot
ExecStart=/usr/bin/false
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """Build two versions that differ in a message; only the first is released."""
    made = make_versions(ROOT, tmp_path_factory.mktemp("versions"), FOLDER.parent)
    try:
        for version, text in ((FIRST, "the first"), (SECOND, "the second")):
            made.place.write("overlays/base/etc/motd", f"{text} version\n")
            made.build(version)
        made.release(FIRST)
        yield made
    finally:
        remove_tree(made.place.top)


@pytest.fixture(scope="module")
def releases(versions: Versions) -> Iterator[Releases]:
    with Releases(versions.repository) as server:
        yield server


@pytest.fixture(scope="module")
def recording(versions: Versions) -> Recording:
    return Recording(versions.place.top / "writes.log")


@pytest.fixture(scope="module")
def up(
    request: pytest.FixtureRequest,
    runner: Runner,
    versions: Versions,
    accel: Accel,
    releases: Releases,
    recording: Recording,
) -> Iterator[VmNode]:
    """Give a node of the first version that reaches the release server alone."""
    services = (HostService(SERVER, 80, releases.port),)
    disk = versions.place.top / "images" / FIRST / "disk.raw"
    size = VmSize(disk_bytes=4 << 30)
    with start_node(
        runner, disk, SEED, FOLDER,
        accel=accel, size=size, services=services, write_log=recording.log,
    ) as started:  # fmt: skip
        recording.mark("install")
        started.machine.wait_for("login:", BOOT_S)
        wait_settled(started)
        yield started
        if request.session.testsfailed:
            logs = ROOT / "out" / "failed-tests" / request.module.__name__
            print(keep_evidence(started.machine, started.ssh, logs))


def test_a_new_version_comes_by_patches_and_is_kept(
    up: VmNode, versions: Versions, releases: Releases, recording: Recording
) -> None:
    assert slots(up) == {FIRST: None}
    assert "is what channel stable has" in say(up, "sudo imgnode update check")
    versions.release(SECOND)
    before = len(releases.requests)
    assert f"{SECOND} is available" in say(up, "sudo imgnode update check")
    recording.mark("stage")
    say(up, "sudo imgnode update stage")
    recording.mark("write")
    say(up, "sudo imgnode update apply")
    recording.mark("boot")
    reboots_into(up, "systemctl reboot", SECOND)
    recording.mark("end")
    moved = {name: sent for name, _, _, sent in releases.asked_since(before)}
    full = versions.repository / "imgbuild-bare" / SECOND
    whole = sum((full / name).stat().st_size for name in ("root.erofs.zst", "uki.efi"))
    assert f"root.from-{FIRST}.zstpatch" in moved
    assert "root.erofs.zst" not in moved
    assert sum(moved.values()) < whole / 20
    assert say(up, "cat /etc/motd") == "the second version"
    assert slots(up) == {FIRST: None, SECOND: None}
    assert status(up)["updated"] is not None


def test_back_by_hand(up: VmNode) -> None:
    reboots_into(up, "imgnode update rollback --reboot", FIRST)
    assert slots(up) == {FIRST: None, SECOND: 0}
    assert "rolled back by hand" in refused(up, "sudo imgnode update apply")


@pytest.mark.parametrize("name", ["root.from-{}.zstpatch", "release.json", "SHA256SUMS"])
def test_a_file_that_was_changed_on_the_server_changes_nothing(
    up: VmNode, versions: Versions, name: str
) -> None:
    """The other slot and its entry stay as they are."""
    path = versions.repository / "imgbuild-bare" / SECOND / name.format(FIRST)
    before, good = slots(up), path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(flipped)
    try:
        assert "damaged" in refused(up, "sudo imgnode update apply --retry")
    finally:
        path.write_bytes(good)
    assert slots(up) == before
    assert status(up)["staged"] is None


def test_an_old_channel_file_is_not_believed(up: VmNode, versions: Versions) -> None:
    path = versions.repository / "channels/imgbuild-bare/stable.json.asc"
    older = path.read_bytes()
    versions.release(SECOND, "--expires", "30d")
    say(up, "sudo imgnode update check --retry")
    newer = path.read_bytes()
    path.write_bytes(older)
    assert "replayed" in refused(up, "sudo imgnode update check --retry")
    path.write_bytes(newer)


@pytest.mark.long
def test_a_version_with_a_broken_unit_goes_back_without_a_hand(
    up: VmNode, versions: Versions
) -> None:
    place = versions.place
    unit = place.write("overlays/base/usr/lib/systemd/system/broken.service", BROKEN_UNIT)
    preset = place.write("units/system-preset/00-broken.preset", "enable broken.service\n")
    versions.build(BROKEN)
    unit.unlink()
    preset.unlink()
    versions.release(BROKEN)
    reboots_into(up, "imgnode update apply --reboot", FIRST)
    assert slots(up) == {FIRST: None, BROKEN: 0}
    assert BROKEN in status(up)["failed"]
    assert "failed-here" in refused(up, "sudo imgnode update apply")


@pytest.mark.long
def test_a_version_whose_kernel_panics_goes_back_without_a_hand(
    up: VmNode, versions: Versions
) -> None:
    profile = versions.place.project / "config/profiles/bare.yaml"
    text = profile.read_text()
    panics = "kernel:\n  cmdline: [console=ttyS0, panic=10, rdinit=/nowhere]\n"
    profile.write_text(text.replace("kernel:\n", panics, 1))
    versions.build(PANIC)
    profile.write_text(text)
    versions.release(PANIC)
    since = up.machine.serial.position()
    reboots_into(up, "imgnode update apply --reboot", FIRST)
    up.machine.wait_for("Kernel panic", 1, since=since)
    assert slots(up) == {FIRST: None, PANIC: 0}
    assert PANIC in status(up)["failed"]


def test_a_power_cut_at_any_point_of_that_update(
    runner: Runner, up: VmNode, versions: Versions, recording: Recording
) -> None:
    """A few points of the matrix: tests/vm/test_powercut.py has them all. Ends the node."""
    up.machine.poweroff(BOOT_S)
    images = versions.place.top / "images"
    known = [release_of(images / one) for one in (FIRST, SECOND)]
    matrix = Matrix(runner, recording, known, {}, versions.place.top / "judged")
    began = time.monotonic()
    rows = matrix.judge(matrix.cuts(CUTS, seed=1))
    print("\n".join(table(rows, began)))
    assert [row for row in rows if row.verdict.losses] == []
    torn = [row for row in rows if row.cut.phase == "write" and row.cut.fate == "torn"]
    ((row, disk),) = matrix.disks(torn[-1:])
    assert row.verdict.boots == FIRST
    boot_and_update(runner, up, disk, FIRST, SECOND)

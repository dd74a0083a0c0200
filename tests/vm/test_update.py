"""A node's life from version to version, from real releases over HTTP: one node, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from tests.powercut.judge import NO_ENTRY, release_of
from tests.powercut.matrix import Matrix, table
from tests.powercut.recording import Recording
from tests.unit import hostile
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, SEED, keep_if_failed, wait_settled
from tests.vm.cutnode import boot_and_update
from tests.vm.releases import Releases
from tests.vm.updates import COMMAND_S, reboots_into, refused, say, slots, status
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
ATTACKED = "2099.2.5"
LARGE = 32 << 20  # bytes; what is fetched where patches fit is smaller
PATCH = f"root.from-{SECOND}.zstpatch"
ATTACKS: tuple[tuple[str, hostile.Answer | None, str], ...] = (
    *((name, None, "signature") for name in ("stable.json.asc", "SHA256SUMS.gpg")),
    *((name, None, "damaged") for name in ("SHA256SUMS", "release.json", "manifest.json", PATCH)),
    ("stable.json.asc", hostile.endless, "fetch"),
    ("manifest.json", hostile.truncated, "fetch"),
    ("SHA256SUMS", hostile.elsewhere(302, "http://10.0.2.2/"), "fetch"),
    (PATCH, hostile.short, "damaged"),
    (PATCH, hostile.endless, "fetch"),
)
SLOT_A = "$(lsblk -nrpo NAME,PARTLABEL | awk '/imgbuild-bare_2099.1$/ {print $1}')"
TABLE = "imgnode/schema/table.py"
FORM = """

def _form(folder: Path) -> None:
    (folder / "gate").mkdir(exist_ok=True)
    (folder / "gate/form").write_text(str(max(TABLE)))


TABLE = {FIRST: TABLE[FIRST], **{n: Migration(("gate",), _form) for n in range(2, NEWEST + 1)}}
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """Build two versions that differ in a message and the form of the state.

    Only the first is released.
    """
    made = make_versions(ROOT, tmp_path_factory.mktemp("versions"), FOLDER.parent)
    try:
        for version, text in ((FIRST, "the first"), (SECOND, "the second")):
            made.place.write("overlays/base/etc/motd", f"{text} version\n")
            made.build(version)
            knows_form(made, 2)
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
        keep_if_failed(request, started)


def knows_form(versions: Versions, newest: int) -> None:
    """Let the versions that are built from now on have a newer form of the state."""
    text = (ROOT / TABLE).read_text() + FORM.replace("NEWEST", f"{newest}")
    versions.place.write(TABLE, text)


def form(node: VmNode) -> tuple[str, str]:
    """Return the number of the state's form, and what a migration has written."""
    kept = say(node, "sudo ls -A /var/lib/imgnode")
    assert ".schema" not in kept.split()
    number, made = "/var/lib/imgnode/schema", "/var/lib/imgnode/gate/form"
    return say(node, f"cat {number}"), say(node, f"sudo cat {made} || true")


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
    whole = sum((full / name).stat().st_size for name in ("root.erofs.zst", "uki.efi.zst"))
    assert f"root.from-{FIRST}.zstpatch" in moved
    assert "root.erofs.zst" not in moved
    assert sum(moved.values()) < whole / 20
    assert say(up, "cat /etc/motd") == "the second version"
    assert slots(up) == {FIRST: None, SECOND: None}
    assert status(up)["updated"] is not None
    assert form(up) == ("2", "2")


def test_back_by_hand(up: VmNode) -> None:
    reboots_into(up, "imgnode update rollback --reboot", FIRST)
    assert slots(up) == {FIRST: None, SECOND: 0}
    assert form(up) == ("2", "2")
    assert "state    NEWER: of form 2, this version knows 1" in say(up, "imgnode status")
    assert "rolled back by hand" in refused(up, "sudo imgnode update apply")
    say(up, "sudo imgnode update apply --retry")  # into the slot that has its name already
    assert slots(up) == {FIRST: None, SECOND: 3}


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
def test_one_attack_after_another_and_the_fallback_still_boots(
    up: VmNode, versions: Versions, releases: Releases
) -> None:
    """The whole table is tests/unit/test_update_attacks.py; here the slots are real ones."""
    versions.release(SECOND)
    reboots_into(up, "imgnode update apply --retry --reboot", SECOND)
    versions.place.write("overlays/base/etc/motd", "the attacked version\n")
    versions.build(ATTACKED)
    versions.release(ATTACKED)
    files = {
        str(path.relative_to(versions.repository)): path.read_bytes()
        for path in versions.repository.rglob("*")
        if path.is_file() and path.stat().st_size < LARGE
    }
    signs = up.ssh.run(f"sudo sha256sum {SLOT_A}", COMMAND_S).stdout
    assert len(signs.splitlines()) == 2
    before = slots(up)
    releases.down()
    for name, lie, kind in ATTACKS:
        path = next(one for one in files if one.endswith((f"{ATTACKED}/{name}", f"bare/{name}")))
        with hostile.serving(dict(files), releases.port) as site:
            if lie is None:
                data = bytearray(files[path])
                data[len(data) // 2] ^= 1
                site.files[path] = bytes(data)
            else:
                site.lies[name] = lie
            assert f"update: {kind}: " in refused(up, "sudo imgnode update apply"), (name, lie)
        assert slots(up) == before
    releases.up()
    assert up.ssh.run(f"sudo sha256sum {SLOT_A}", COMMAND_S).stdout == signs
    assert status(up)["staged"] is None
    reboots_into(up, "imgnode update rollback --reboot", FIRST)


@pytest.mark.long
def test_a_version_with_a_broken_unit_goes_back_without_a_hand(
    up: VmNode, versions: Versions
) -> None:
    place = versions.place
    unit = place.write("overlays/base/usr/lib/systemd/system/broken.service", BROKEN_UNIT)
    preset = place.write("units/system-preset/00-broken.preset", "enable broken.service\n")
    knows_form(versions, 3)
    before = form(up)
    versions.build(BROKEN)
    unit.unlink()
    preset.unlink()
    versions.release(BROKEN)
    reboots_into(up, "imgnode update apply --reboot", FIRST)
    assert slots(up) == {FIRST: None, BROKEN: 0}
    assert form(up) == before
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
    back = [row for row in rows if row.cut.phase == "write" and row.verdict.boots == FIRST]
    # Best one whose slot has the new version's name already: the same version is written again.
    half = [row for row in back if any(NO_ENTRY in note for note in row.verdict.notes)]
    for _, disk in matrix.disks((half or back)[-1:]):
        boot_and_update(runner, up, disk, FIRST, SECOND)

"""The power-cut matrix of updates: docs/decisions/power-cut.md. `make test-powercut` runs it.

One node lives through two updates while each write of its disk is logged. Then its disk is rebuilt
as a power cut at each of many seeded points may have left it, and judged; some are booted, and
take the next update.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from tests.powercut.judge import release_of
from tests.powercut.matrix import Matrix, Row, table
from tests.powercut.recording import Recording
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, SEED, wait_settled
from tests.vm.cutnode import boot_and_update, make_layers, record_layers, record_update
from tests.vm.releases import Releases
from tests.vm.versions import SERVER, Versions, make_versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(4 * 3600)]

# As long as real names: an entry then takes as many slots of its folder on the FAT.
VERSIONS = ("20990101-00000001", "20990102-00000002", "20990103-00000003")
POINTS = int(os.environ.get("POWERCUT_POINTS", "240"))
BOOTS = int(os.environ.get("POWERCUT_BOOTS", "12"))
DICE = int(os.environ.get("POWERCUT_SEED", "1"))
DISK = 4 << 30
LAYERS = (12_000_000, 9_000_000)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    made = make_versions(ROOT, tmp_path_factory.mktemp("versions"), FOLDER.parent)
    try:
        for version in VERSIONS:
            made.place.write("overlays/base/etc/motd", f"version {version}\n")
            made.build(version)
        made.release(VERSIONS[0])
        yield made
    finally:
        remove_tree(made.place.top)


@pytest.fixture(scope="module")
def lived(runner: Runner, versions: Versions, accel: Accel) -> Iterator[tuple[VmNode, Matrix]]:
    """Give a node that is switched off, and the matrix of its life."""
    top = versions.place.top
    recording = Recording(top / "writes.log")
    layers = make_layers(versions.repository, LAYERS)
    first = top / "images" / VERSIONS[0] / "disk.raw"
    size = VmSize(disk_bytes=DISK)
    with Releases(versions.repository) as releases:
        services = (HostService(SERVER, 80, releases.port),)
        with start_node(
            runner, first, SEED, FOLDER,
            accel=accel, size=size, services=services, write_log=recording.log,
        ) as node:  # fmt: skip
            recording.mark("install")
            node.machine.wait_for("login:", BOOT_S)
            wait_settled(node)
            record_layers(node, recording, layers)
            for version, suffix in zip(VERSIONS[1:], ("", " again"), strict=True):
                versions.release(version)
                record_update(node, recording, version, suffix)
            recording.mark("end")
            node.machine.poweroff(BOOT_S)
            known = [release_of(top / "images" / one) for one in VERSIONS]
            digests = {one.name: one.sha256 for one in layers}
            yield node, Matrix(runner, recording, known, digests, top / "judged")


@pytest.fixture(scope="module")
def rows(lived: tuple[VmNode, Matrix]) -> list[Row]:
    began = time.monotonic()
    _, matrix = lived
    judged = matrix.judge(matrix.cuts(POINTS, DICE))
    print("\n".join(["", *table(judged, began)]))
    return judged


def test_a_power_cut_at_any_point_leaves_a_node_that_serves_and_updates(rows: list[Row]) -> None:
    assert len(rows) >= POINTS * 0.9
    assert [row for row in rows if row.verdict.losses] == []


def test_what_a_cut_left_boots_and_takes_the_next_update(
    runner: Runner, lived: tuple[VmNode, Matrix], rows: list[Row]
) -> None:
    node, matrix = lived
    updatable = [row for row in rows if row.verdict.boots != VERSIONS[-1]]
    told = [row for row in updatable if row.verdict.notes][: BOOTS // 2]
    rest = [row for row in updatable if row not in told]
    rest = rest[:: max(1, len(rest) // max(1, BOOTS - len(told)))][: BOOTS - len(told)]
    for row, disk in matrix.disks(sorted([*told, *rest], key=lambda row: row.cut.index)):
        print(f"booting {row.cut}: {row.verdict}")
        boot_and_update(runner, node, disk, row.verdict.boots or "", VERSIONS[-1])

"""The power fails at POINTS of an installation: docs/decisions/installer.md.

A machine is installed from a stick while each write of its disk is logged. Its disk is rebuilt as a
power cut at each of many seeded points may have left it: it boots a whole version or nothing, and
the next run of the installer makes a node of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from builder.core.files import copy_sparse, remove_tree
from builder.core.process import Runner
from builder.vm.qemu import Accel
from imgnode.install.order import Order
from tests.powercut.installs import Installs, Left, installer_root, told
from tests.powercut.judge import release_of
from tests.powercut.recording import Recording
from tests.vm.conftest import FOLDER, ROOT
from tests.vm.installing import INSTALL_S, VERSION, bench, blank, make_workshop, second
from tests.vm.versions import make_versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(4 * 3600)]

POINTS = int(os.environ.get("POWERCUT_POINTS", "60"))
DICE = int(os.environ.get("POWERCUT_SEED", "1"))
PHASES = ("table", "root.erofs", "root.verity", "layers", "seed", "uki.efi", "done")
DISK = 4 << 30


@pytest.fixture(scope="module")
def installs(
    runner: Runner, accel: Accel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installs]:
    """Give a recorded installation onto an empty disk."""
    versions = make_versions(ROOT, tmp_path_factory.mktemp("versions"), FOLDER.parent)
    top = versions.place.top
    try:
        workshop = make_workshop(runner, versions)
        stick = workshop.stick("gpu-07")
        recording = Recording(top / "writes.log")
        recording.log.touch()
        disk = blank(top / "target.raw", DISK)
        copy_sparse(runner, disk, recording.before)
        extra = second(stick, read_only=True)
        with bench(runner, workshop, accel, disk, extra, write_log=recording.log) as made:
            for phase in PHASES:
                made.machine.wait_for(rf"install: {phase}", INSTALL_S)
                recording.mark(phase)
            made.machine.wait_exit(INSTALL_S)
        recording.mark("end")
        (top / "work").mkdir()
        (keyring,) = (top / "keys").glob("*.gpg")
        yield Installs(
            runner,
            recording,
            disk,
            release_of(top / "images" / VERSION),
            Order(
                releases=f"file://{versions.repository}",
                image_id="imgbuild-bare",
                disk="largest",
                seed={"user-data": "#cloud-config\nhostname: gpu-07\n"},
            ),
            installer_root(runner, disk, keyring, top / "root"),
            max(FOLDER.parent.glob("stages/tools/*/tree"), key=lambda one: one.stat().st_mtime),
            top / "work",
        )
    finally:
        remove_tree(top)


def test_a_power_cut_at_any_point_costs_time_only(installs: Installs) -> None:
    cuts = installs.cuts(POINTS, DICE)
    rows: list[Left] = []
    for row in installs.judge(cuts):
        rows.append(row)
        print(f"{row.cut}: {'boots' if row.boots else 'again'} {'; '.join(row.losses)}", flush=True)
    print("\n".join(["", *told(rows)]))
    assert len(rows) >= min(POINTS, 50)
    assert [row for row in rows if row.losses] == []

"""A machine whose firmware hangs after a reset: docs/decisions/emulation.md."""

from __future__ import annotations

import pytest

from builder.vm.qemu import Accel
from builder.vm.session import VmNode
from tests.vm.conftest import BOOT_S

pytestmark = [pytest.mark.vm, pytest.mark.long]


def test_it_is_switched_off_and_on(up: VmNode, accel: Accel) -> None:
    if accel == "kvm":
        pytest.skip("only emulated firmware was seen to hang, and only that is watched")
    since = up.machine.serial.position()
    up.ssh.run("sudo systemctl reboot", BOOT_S)
    reset = up.machine.wait_for("reboot: Restarting system", BOOT_S, since=since).end
    at = up.machine.wait_for("BdsDxe: starting", BOOT_S, since=reset).end
    up.machine.qmp("stop")
    up.machine.wait_for("login:", BOOT_S, since=at)
    up.ssh.wait_ready(BOOT_S)

"""How the tests of updates talk to a node."""

from __future__ import annotations

import json
import time
from typing import Any

from builder.vm.session import VmNode
from tests.vm.conftest import wait_settled

COMMAND_S = 300.0
TRIES_S = 900.0


def say(node: VmNode, command: str) -> str:
    """Return what a command prints that must succeed."""
    done = node.ssh.run(command, COMMAND_S)
    assert done.rc == 0, f"{command}: {done.rc}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def refused(node: VmNode, command: str) -> str:
    """Return what a command says that must end with 1."""
    done = node.ssh.run(command, COMMAND_S)
    assert done.rc == 1, f"{command}: {done.rc}\n{done.stdout}\n{done.stderr}"
    return done.stderr


def status(node: VmNode) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(say(node, "sudo imgnode update status --json"))
    return told


def slots(node: VmNode) -> dict[str, int | None]:
    """Return the tries that are left for each version with a boot entry; None for good ones."""
    found = status(node)["slots"]
    return {one["label"].rpartition("_")[2]: one["tries"] for one in found if one["entry"]}


def reboots_into(node: VmNode, command: str, version: str, limit_s: float = TRIES_S) -> None:
    """Run a command that reboots; wait until the node has settled on a version, with it good.

    Prints how long that took, for docs/updates.md.
    """
    since, began = node.machine.serial.position(), time.monotonic()
    done = node.ssh.run(f"sudo {command}", COMMAND_S)
    assert done.rc != 1, done.stderr  # 255 when the reboot cuts the line
    print(f"{command}: reboots after {time.monotonic() - began:.0f} s")
    boot = since
    while True:
        boot = node.machine.wait_for("login:", limit_s, since=boot).end
        wait_settled(node)
        told = node.ssh.run("sudo imgnode update status --json", COMMAND_S)
        if told.rc == 0 and json.loads(told.stdout)["running"] == version:
            break
    print(f"{command}: {version} is good after {time.monotonic() - began:.0f} s")
    assert slots(node)[version] is None

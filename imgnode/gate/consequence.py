"""What a verdict leads to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from imgnode.gate import quarantine, systemd
from imgnode.gate.entries import read_trial
from imgnode.gate.finding import CONFIG, EXTERNAL, HARDWARE, IMAGE, OK
from imgnode.gate.report import Verdict

PAUSE_S = 10  # long enough to be read on the console
_TEXTS = {
    OK: "this version is good",
    CONFIG: "the image is kept: mend the config",
    HARDWARE: "quarantine: the image is kept, and nothing is served: mend the machine",
    EXTERNAL: "the image is kept: nothing here is to be mended, and serving is tried again",
}


@dataclass(frozen=True)
class Plan:
    """What is done, and how it is told."""

    text: str
    quarantine: str | None = None
    reboot: bool = False


def plan(verdict: Verdict, root: Path = Path("/"), *, boot: bool = False) -> Plan:
    """Return what is to be done.

    A reboot takes one of the tries that the boot loader counts, so there are no more of them than
    tries; it is of no use where no other version could come up. A good version never reboots.
    """
    if verdict.whose != IMAGE:
        held = verdict.text if verdict.whose == HARDWARE else None
        return Plan(_TEXTS[verdict.whose], quarantine=held)
    trial = read_trial(root)
    if trial.left is None:
        return Plan("this version was good before: the node stays up")
    if not trial.others:
        return Plan("there is no other version to go back to: the node stays up")
    if not boot:
        return Plan("the next boot takes one of the tries that are left, or the other version")
    back = f"no try is left, back to {trial.others[0]}"
    text = f"tries left: {trial.left}" if trial.left else back
    return Plan(f"rebooting in {PAUSE_S} s: {text}", reboot=True)


def act(what: Plan, root: Path = Path("/")) -> None:
    """Do it. Raises OSError for a full /run."""
    if what.quarantine is not None:
        quarantine.impose(what.quarantine, root)
    if what.reboot:
        time.sleep(PAUSE_S)
        systemd.act("reboot")

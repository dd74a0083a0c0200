"""Makes the GPUs what the profile says: device files, persistence, power limit, MIG.

Through NVML, in a child that may hang (imgnode/gpu/__main__.py); MIG instances through nvidia-smi,
which knows them by the names that profiles use. ECC needs a reset and is told only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imgnode.gpu import nodes, plan
from imgnode.gpu.check import Report, look
from imgnode.gpu.inventory import CHILD, Device, Inventory, State, answers, take
from imgnode.gpu.profile import GpuProfile, read_profile
from imgnode.process import run

_FIRST_S = 150  # without persistence the first question brings up one GPU after another
_SET_S = 60
_NONE_THERE = 6  # nvidia-smi(1): the query found nothing


@dataclass(frozen=True)
class Outcome:
    """What was done, what could not be done, and how the GPUs stand now."""

    done: tuple[str, ...]
    failed: tuple[str, ...]
    report: Report


def apply(root: Path = Path("/")) -> Outcome:
    """Set up the GPUs; what is as it should be is left alone, so it may be repeated.

    What fails costs that step alone. Ends within minutes even where the driver hangs. Raises
    OSError or ValueError where the image's own files cannot be read, or /run not be written.
    """
    profile = read_profile(root)
    if profile is None:
        return Outcome((), (), Report())
    done: list[str] = []
    failed = nodes.make(root)
    found = take(root, limit_s=_FIRST_S)
    if found.state is State.OK:
        found = _settle(profile, found, done, failed, root)
        failed += nodes.make_caps(root) if profile.mig else []
        failed += plan.notes(profile, found)
    made = nodes.link(root)
    done += [f"linked in /dev/char: {' '.join(made)}"] if made else []
    return Outcome(tuple(done), tuple(failed), look(root, found))


def _settle(
    profile: GpuProfile, found: Inventory, done: list[str], failed: list[str], root: Path
) -> Inventory:
    """Set what differs, in the order in which one thing needs the other; return what is then."""
    crowded = plan.clearing(profile, found)
    if not _split(crowded, ("-dci",), done, failed) or not _split(crowded, ("-dgi",), done, failed):
        return take(root)
    wanted = plan.settings(profile, found)
    _set(wanted, done, failed)
    if crowded or any(one.key == "mig" for one in wanted):
        found = take(root)
    empty = plan.splitting(profile, found)
    if profile.mig:
        _split(empty, ("-cgi", plan.instances(profile.mig), "-C"), done, failed)
    return take(root) if wanted or empty or crowded else found


def _set(wanted: Sequence[plan.Setting], done: list[str], failed: list[str]) -> None:
    """Let the child set values through NVML; what it does not answer any more has failed."""
    if not wanted:
        return
    told = run([*CHILD, "set"], timeout_s=_SET_S, stdin=json.dumps([asdict(one) for one in wanted]))
    errors = [answer["error"] for answer in answers(told.stdout)]
    errors += ["the driver did not answer"] * (len(wanted) - len(errors))
    for setting, error in zip(wanted, errors, strict=True):
        text = f"GPU {setting.index}: {setting.key} {setting.value}"
        if error:
            failed.append(f"{text}: {error}")
        else:
            done.append(text)


def _split(
    devices: Sequence[Device], words: tuple[str, ...], done: list[str], failed: list[str]
) -> bool:
    """Call `nvidia-smi mig` for each GPU; False where one failed: what follows would, too."""
    for device in devices:
        argv = ["nvidia-smi", "mig", "-i", str(device.index), *words]
        told = run(argv, timeout_s=_SET_S)
        if told.rc not in (0, _NONE_THERE):
            said = (told.stdout + told.stderr).strip().splitlines()
            failed.append(f"{' '.join(argv)}: {said[-1] if said else f'ended with {told.rc}'}")
            return False
        done.append(" ".join(argv))
    return True

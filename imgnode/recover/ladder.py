"""Which rung comes next. Pure; why it is so: docs/decisions/recovery.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgnode.health.contract import Remedy
from imgnode.recover.state import DAY, HOUR, State, Trouble
from imgnode.recover.steps import STEPS

_BACK_OFF_S, _BACK_OFF_MAX_S = 30.0, 900.0


@dataclass(frozen=True)
class Rung:
    """Steps that belong together; after the last one it is looked whether they helped."""

    name: str
    steps: tuple[str, ...]

    @property
    def serves(self) -> bool:
        """Whether the node must serve again afterwards."""
        return "start-service" in self.steps or self.name == Remedy.REBOOT


_RUNGS = (
    Rung(Remedy.UNIT, ("restart-unit",)),
    Rung(Remedy.SERVE, ("stop-service", "remove-container", "restart-docker", "start-service")),
    Rung(Remedy.DOCKER, ("restart-docker", "start-service")),
    Rung(Remedy.CONFIG, ("stop-service", "repair-config", "restart-docker", "start-service")),
    Rung(Remedy.GPU_RESET, ("stop-service", "reset-gpu", "start-service")),
    Rung(Remedy.REBOOT, ("reboot",)),
    Rung(Remedy.QUARANTINE, ("quarantine",)),
)
RUNGS: Mapping[str, Rung] = {one.name: one for one in _RUNGS}
_WAYS: Mapping[Remedy, tuple[Remedy, ...]] = {
    Remedy.NONE: (),
    Remedy.UNIT: (Remedy.UNIT,),  # a lesser service is not worth the node's work
    Remedy.SERVE: (
        *(Remedy.SERVE, Remedy.CONFIG, Remedy.GPU_RESET),
        *(Remedy.REBOOT, Remedy.QUARANTINE),
    ),
    Remedy.DOCKER: (Remedy.DOCKER, Remedy.CONFIG, Remedy.REBOOT, Remedy.QUARANTINE),
    Remedy.CONFIG: (Remedy.CONFIG, Remedy.REBOOT, Remedy.QUARANTINE),
    Remedy.GPU_RESET: (Remedy.GPU_RESET, Remedy.REBOOT, Remedy.QUARANTINE),
    Remedy.REBOOT: (Remedy.REBOOT, Remedy.QUARANTINE),
    Remedy.QUARANTINE: (Remedy.QUARANTINE,),
}
_SEVERITY = tuple(_WAYS)


def severity(remedy: Remedy) -> int:
    """Return how much a remedy costs running work; the greatest is the worst."""
    return _SEVERITY.index(remedy)


def next_rung(
    trouble: Trouble, tried: tuple[str, ...], state: State, now: float, *, can_reboot: bool
) -> Rung | None:
    """Return the rung to try next, None where nothing is left that may be tried.

    A rung whose steps have reached their limits is left out, as is one that does not apply here.
    """
    for remedy in _WAYS[trouble.remedy]:
        rung = RUNGS[remedy]
        if rung.name in tried or (remedy == Remedy.GPU_RESET and not trouble.gpus):
            continue
        if remedy == Remedy.REBOOT and not can_reboot:
            continue
        if all(allowed(step, trouble, state, now) for step in rung.steps):
            return rung
    return None


def allowed(step: str, trouble: Trouble, state: State, now: float) -> bool:
    """Tell whether a step is still within its limits."""
    name, limits = tally_name(step, trouble), STEPS[step]
    hour, day = state.count(name, now, HOUR), state.count(name, now, DAY)
    return hour < limits.per_hour and day < limits.per_day


def tally_name(step: str, trouble: Trouble) -> str:
    """Return the name under which a step is counted: each unit has limits of its own."""
    return f"{step}:{trouble.unit}" if step == "restart-unit" else step


def wait_s(family: str, state: State, now: float) -> float:
    """Return for how many seconds more the next rung of a family must wait.

    Longer with each rung of the last hour; the first one waits for nothing.
    """
    since, rungs = state.last(f"end:{family}", now), state.count(f"end:{family}", now, HOUR)
    if since is None or not rungs:
        return 0.0
    return max(min(_BACK_OFF_S * 2.0 ** (rungs - 1), _BACK_OFF_MAX_S) - since, 0.0)

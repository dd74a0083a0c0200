"""The steps of the ladder: what each one runs, and how often it may within an hour and a day.

A step may be cut off anywhere and be run again: each one brings about a state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imgnode.serve.names import NAME

SERVICE = "vllm.service"
DOCKER = ("containerd.service", "docker.service")
_ASK_S = 30
_STOP_S = 240  # the service has 60 s to stop, and as long again for what comes after
_DOCKER_S = 60
_UNIT_S = 180
_ACT_S = 320  # more than TimeoutStartSec= of imgnode-recover@.service
_MANY = 1_000


@dataclass(frozen=True)
class Target:
    """What a step works on: the unit to restart, the GPUs to reset."""

    unit: str | None = None
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Command:
    """One program of a step. With `if_late` it runs only where one before it took too long."""

    argv: tuple[str, ...]
    timeout_s: float = _ASK_S
    if_late: bool = False


@dataclass(frozen=True)
class Step:
    """`per_hour` and `per_day` say how often it may run.

    Where one that is `vital` fails, its rung cannot have helped: nothing is waited for.
    """

    name: str
    about: str
    per_hour: int
    commands: Callable[[Target], tuple[Command, ...]]
    per_day: int = _MANY
    vital: bool = False


def _systemctl(*words: str, timeout_s: float = _ASK_S, if_late: bool = False) -> Command:
    return Command(("systemctl", *words), timeout_s, if_late)


def stop_service(_: Target) -> tuple[Command, ...]:
    """Stop the server. One that stands still is killed by Docker, at last by systemd."""
    return (_systemctl("stop", SERVICE, timeout_s=_STOP_S),)


def remove_container(_: Target) -> tuple[Command, ...]:
    """Remove what the service left; a Docker that hangs is the next step's matter."""
    return (Command(("docker", "rm", "--force", NAME), _ASK_S),)


def restart_docker(_: Target) -> tuple[Command, ...]:
    """Restart Docker and containerd; a dockerd that hangs is killed."""
    return (
        _systemctl("reset-failed", "docker.socket", *DOCKER),
        _systemctl("restart", *DOCKER, timeout_s=_DOCKER_S),
        _systemctl("kill", "--signal=SIGKILL", *DOCKER, if_late=True),
        _systemctl("start", *DOCKER, timeout_s=_UNIT_S, if_late=True),
    )


def start_service(_: Target) -> tuple[Command, ...]:
    """Start the server; whether it serves is looked at afterwards."""
    return (_systemctl("reset-failed", SERVICE), _systemctl("--no-block", "start", SERVICE))


def restart_unit(target: Target) -> tuple[Command, ...]:
    """Restart the unit that the finding names."""
    unit = target.unit or ""
    return (_systemctl("reset-failed", unit), _systemctl("restart", unit, timeout_s=_UNIT_S))


def repair_config(_: Target) -> tuple[Command, ...]:
    """Bring back the last good config (imgnode/recover/act.py)."""
    return (_act("repair-config"),)


def reset_gpu(target: Target) -> tuple[Command, ...]:
    """Reset the GPUs that the finding names (imgnode/recover/act.py)."""
    return (_act(":".join(["reset-gpu", *(str(one) for one in target.gpus)])),)


def reboot(_: Target) -> tuple[Command, ...]:
    """Reboot; a shutdown that hangs is ended by the watchdog."""
    return (_systemctl("reboot"),)


def quarantine(_: Target) -> tuple[Command, ...]:
    """Stop the server for good: the engine has written why, and it does not start any more."""
    return (_systemctl("stop", SERVICE, timeout_s=_STOP_S),)


def _act(what: str) -> Command:
    """Run in a unit of its own: the health loop's sandbox is too narrow for it."""
    return _systemctl("start", f"imgnode-recover@{what}.service", timeout_s=_ACT_S)


STEPS = {
    one.name: one
    for one in (
        Step("restart-unit", "restart one unit", 3, restart_unit, per_day=12, vital=True),
        Step("stop-service", f"stop {SERVICE}", 6, stop_service),
        Step("remove-container", "remove the server's container", 3, remove_container),
        Step("restart-docker", "restart Docker and containerd", 5, restart_docker, vital=True),
        Step("start-service", f"start {SERVICE}", 6, start_service),
        Step("repair-config", "bring back the last good config", 1, repair_config, per_day=4),
        Step("reset-gpu", "reset GPUs", 1, reset_gpu, per_day=4, vital=True),
        Step("reboot", "reboot", 1, reboot, per_day=3),
        Step("quarantine", "take no work until a person has looked", _MANY, quarantine),
    )
}

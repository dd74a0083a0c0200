"""systemd's units: started, and none failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.gate import systemd
from imgnode.gate.attribution import UNITS
from imgnode.gate.finding import CONFIG, IMAGE, Finding, Look, Waiting

# cloud-init's last stage, with the seed's runcmd, comes after multi-user.target.
_GOALS = ("multi-user.target", "cloud-init.target")
_FETCHING = "imgnode-layers.service"
# Other checks judge these by what they do, or they are ourselves.
_OTHERS = frozenset(
    {
        "containerd.service",
        "docker.service",
        "docker.socket",
        "imgnode-gate.service",
        "imgnode-layers.service",
        "vllm.service",
    }
)
# They do what the seed says, and fail with it.
_SEED_S = frozenset(
    {
        "cloud-config.service",
        "cloud-final.service",
        "cloud-init-local.service",
        "cloud-init.service",
    }
)
_NOT_WAITED_FOR = frozenset({"imgnode-gate.service", "vllm.service"})
_SHOWN = 5
_WRITTEN = "run/imgnode/etc/upper"  # what was written to /etc since the image was made


@dataclass(frozen=True)
class UnitsCheck:
    """Whether the system came up. A unit that a seed or a person brought is not the image's."""

    root: Path = Path("/")
    name: str = UNITS
    limit_s: float = 900

    def look(self) -> Look:
        """Look once; while layers are being fetched, that is what is waited for."""
        for goal in _GOALS:
            if systemd.has_job(systemd.properties(goal, "Job")):
                return Look(waiting=self._waiting(goal))
        failed = [one for one in systemd.failed_units() if one not in _OTHERS]
        return Look(tuple(self._failed(one) for one in failed))

    def _waiting(self, goal: str) -> Waiting:
        """Say what is waited for; the seed's own commands may hang without the image's fault."""
        jobs = [one for one in systemd.running_jobs() if one not in _NOT_WAITED_FOR]
        named = ", ".join(jobs[:_SHOWN]) or "nothing"
        whose = CONFIG if jobs and _SEED_S.issuperset(jobs) else IMAGE
        fact = f"{goal} is not reached after {self.limit_s:g} s; still starting: {named}"
        late = Finding(UNITS, whose, fact, "systemctl list-jobs")
        return Waiting(f"starting {named}", late, free=_FETCHING in jobs)

    def _failed(self, unit: str) -> Finding:
        hint = f"systemctl status {unit}; journalctl -b -u {unit}"
        if unit in _SEED_S:
            return Finding(UNITS, CONFIG, f"{unit} failed: something that the seed asks for", hint)
        if self._is_not_the_images(unit):
            return Finding(UNITS, CONFIG, f"{unit} failed, which is no unit of the image", hint)
        return Finding(UNITS, IMAGE, f"{unit} failed", hint)

    def _is_not_the_images(self, unit: str) -> bool:
        """Tell whether a unit's file lies where only seeds and people write."""
        path = Path(systemd.properties(unit, "FragmentPath")["FragmentPath"])
        if path.is_relative_to("/etc"):
            return (self.root / _WRITTEN / path.relative_to("/etc")).exists()
        return path.is_relative_to("/run/systemd/transient")

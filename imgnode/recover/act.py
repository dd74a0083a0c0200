"""Steps that need more than the health loop may do; imgnode-recover@.service runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from imgnode import nodeconfig
from imgnode.files import write_atomic
from imgnode.process import run
from imgnode.serve import choice
from imgnode.serve.facts import read_facts
from imgnode.serve.plan import read_wish, refusal

_SEED_S, _GPU_S, _UNIT_S, _MOUNT_S, _RESTORE_S = 180, 120, 60, 20, 120
_DAEMON = Path("etc/docker/daemon.json")
_IMAGE = Path("run/imgnode/image-root")
# What holds a GPU open keeps nvidia-smi from resetting it (nvidia-smi(1), --gpu-reset).
_CLIENTS = ("nvidia-persistenced.service", "imgnode-exporter.service")
_BACKUP = Path(__file__).parents[1] / "commands/backup.py"


class NotDone(Exception):
    """The step could not do its work, and why."""


def act(what: str, root: Path = Path("/")) -> list[str]:
    """Do `repair-config` or `reset-gpu:0:1`; return what was done. Raises NotDone or OSError."""
    name, *words = what.split(":")
    if name == "repair-config" and not words:
        return repair_config(root)
    if name == "reset-gpu" and words and all(word.isdecimal() for word in words):
        return reset_gpus(words)
    raise NotDone(f"{what}: no such step")


def repair_config(root: Path = Path("/")) -> list[str]:
    """Bring back what is damaged, and let the config that last made a token serve."""
    mend: tuple[Callable[[Path], str | None], ...] = (_seed, _docker, _proven)
    done = [text for text in (one(root) for one in mend) if text]
    if not done:
        raise NotDone("there is nothing to repair: the last good config is in force already")
    return done


def _seed(root: Path) -> str | None:
    """Have the seed judged anew where its result is damaged."""
    try:
        nodeconfig.read_node(root)
        nodeconfig.read_errors(root)
    except (OSError, ValueError, KeyError, TypeError):
        _must(["systemctl", "restart", "imgnode-seed.service"], _SEED_S)
        return "the seed was judged anew"
    return None


def _docker(root: Path) -> str | None:
    """Bring back Docker's own config from the image, where it cannot be read."""
    path = root / _DAEMON
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        write_atomic(path, _of_the_image(_DAEMON, root))
        return f"/{_DAEMON} is the image's own again"
    return None


def _of_the_image(name: Path, root: Path) -> bytes:
    """Return a file as it lies below the layer over /etc: the root once more, without its mounts.

    The unit has a mount namespace of its own, and the mount goes with it.
    """
    place = root / _IMAGE
    place.mkdir(parents=True, exist_ok=True)
    _must(["mount", "--bind", str(root), str(place)], _MOUNT_S)
    try:
        return (place / name).read_bytes()
    finally:
        run(["umount", str(place)], timeout_s=_MOUNT_S)


def _proven(root: Path) -> str | None:
    """Let the last proven config serve; where none is known, ask the backup."""
    facts = read_facts(root)
    wanted = read_wish(facts.gpus, root).settings
    proven = choice.load_proven(root)
    if proven is None or refusal(proven, facts.gpus) is not None:
        return _backup()
    if choice.digest(proven) == choice.digest(wanted):
        return None
    choice.give_up(wanted, "recovery went back to the last good config", root)
    return f"{proven['model']} serves as it did last, until imgnode model retry"


def _backup() -> str | None:
    if not _BACKUP.exists():
        return None
    done = run(["imgnode", "backup", "restore", "--config"], timeout_s=_RESTORE_S)
    return "config and state came from the backup" if done.rc == 0 else None


def reset_gpus(numbers: list[str]) -> list[str]:
    """Reset GPUs and set them up as at boot. Raises NotDone."""
    busy = [one for one in _CLIENTS if _is_active(one)]
    run(["systemctl", "stop", *busy], timeout_s=_UNIT_S)
    try:
        _must(["nvidia-smi", "--gpu-reset", "-i", ",".join(numbers)], _GPU_S)
    finally:
        run(["systemctl", "start", *busy], timeout_s=_UNIT_S)
    _must(["systemctl", "restart", "imgnode-gpu.service"], _SEED_S)
    return [f"GPU {', '.join(numbers)} was reset"]


def _is_active(unit: str) -> bool:
    return run(["systemctl", "is-active", "--quiet", unit], timeout_s=_UNIT_S).rc == 0


def _must(words: list[str], timeout_s: float) -> None:
    done = run(words, timeout_s=timeout_s)
    if done.rc:
        told = " ".join((done.stderr or done.stdout).split())[:300]
        raise NotDone(f"{' '.join(words)}: {told or f'exit code {done.rc}'}")

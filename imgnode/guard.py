"""Stands between the seed and the node: cloud-init gets only what has been judged.

Runs before cloud-init at every boot. cloud-init reads the folder that is written here and
no partition (overlays/seed), so a bad seed never reaches it. Nothing that a seed says may
keep the node from coming up.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgnode import backupconfig, inference, lastgood, metrics, strictyaml
from imgnode.backupconfig import Backup
from imgnode.files import write_atomic
from imgnode.nodeconfig import DEFAULT, LAST_GOOD, SEED, NodeConfig, SeedError, write_node
from imgnode.problems import Problem
from imgnode.seed import HEADER, META, NETWORK, USER, Seed, judge
from imgnode.seeddisk import Found, find_seed

_CLOUD = Path("var/lib/cloud/seed/nocloud")
_ISSUE = Path("run/imgnode/seed.issue")
_ON_CONSOLE = 8
_ERR = "<3>"  # sd-daemon(3): the journal's priority err


@dataclass(frozen=True)
class Effective:
    """What applies: the files for cloud-init, and the node's config."""

    files: Mapping[str, Mapping[str, Any]]
    config: NodeConfig


def apply(root: Path = Path("/")) -> list[Problem]:
    """Judge the seed, hand on what is good, tell what is not. Raises OSError for a full /run."""
    found = find_seed(root)
    gpus = _gpus(root)
    seed = _judged(found, gpus)
    problems = list(seed.problems)
    if not problems:
        problems += _keep(found, root)
    effective = combine(seed, judge_kept(root, gpus), found)
    _hand_over(effective, found, root)
    write_node(effective.config, [SeedError(one.key, str(one)) for one in problems], root)
    _tell(problems, effective.config, root)
    return problems


def combine(seed: Seed, good: Seed, found: Found) -> Effective:
    """Lay the seed over the last good one: what is broken in the first comes from the second."""
    parts: dict[str, Mapping[str, Any]]
    if USER not in seed.parts:
        parts = dict(good.parts)
        replaced = [*parts]
    else:
        files = [name for name in (META, NETWORK) if name in seed.broken and name in good.parts]
        keys = {key: value for key, value in good.user.items() if key in seed.broken}
        parts = {**seed.parts, **{name: good.parts[name] for name in files}}
        parts[USER] = {**seed.user, **keys}
        replaced = [*files, *sorted(keys)]
    if seed.inference is not None:
        config, source = seed.inference, SEED
    elif good.inference is not None:
        config, source = good.inference, LAST_GOOD
    else:
        config, source = inference.Inference(), DEFAULT
    backup = seed.backup or good.backup or Backup()
    if backupconfig.KEY in seed.broken and backup.settings():
        replaced.append(backupconfig.KEY)
    device = found.device
    node = NodeConfig(config.settings(), source, tuple(replaced), device, backup.settings())
    return Effective(parts, node)


def judge_kept(root: Path, gpus: int | None) -> Seed:
    """Judge the last good seed again: a newer image may see it differently."""
    files = lastgood.load(root)
    return _judged(Found("last good", files), gpus) if files else Seed()


def _judged(found: Found, gpus: int | None) -> Seed:
    if found.device is None:
        return Seed(problems=found.problems)
    try:
        return judge(found.files, gpus=gpus)
    except Exception as error:  # noqa: BLE001 - a fault of ours in judging costs the seed, not the node
        fact = f"a fault in imgnode: {type(error).__name__}"
        return Seed(broken=frozenset({USER}), problems=(Problem("seed", fact, "report it"),))


def _gpus(root: Path) -> int | None:
    """Return how many GPUs the image's profile has (0: none), None where it does not say."""
    try:
        count = json.loads((root / "usr/lib/imgnode/image.json").read_text()).get("gpus")
    except (OSError, ValueError):
        return None
    return count if isinstance(count, int) else None


def _keep(found: Found, root: Path) -> list[Problem]:
    try:
        lastgood.save(found.files, root)
    except OSError as error:
        hint = "should the next seed be bad, there is none to go back to"
        return [Problem("seed", f"cannot be kept on /var: {error.strerror}", hint)]
    return []


def _hand_over(effective: Effective, found: Found, root: Path) -> None:
    """Write the seed folder of cloud-init (NoCloud), an empty seed where there is none."""
    folder = root / _CLOUD
    user = f"{HEADER}\n{strictyaml.dump(dict(effective.files.get(USER, {})))}"
    instance = {"instance-id": f"imgnode-{lastgood.digest(found.files)[:16]}"}
    meta = strictyaml.dump({**instance, **effective.files.get(META, {})})
    write_atomic(folder / USER, user, 0o600)
    write_atomic(folder / META, meta, 0o600)
    if effective.files.get(NETWORK):
        write_atomic(folder / NETWORK, strictyaml.dump(dict(effective.files[NETWORK])), 0o600)
    else:
        (folder / NETWORK).unlink(missing_ok=True)


def _tell(problems: list[Problem], config: NodeConfig, root: Path) -> None:
    """Say what is wrong: journal and console now, the login prompt and the metrics later."""
    lines = console_lines(problems, config)
    for line in lines:
        print(f"{_ERR}{line}", file=sys.stderr)
    if lines:  # issue(5): agetty would expand backslashes
        text = "\n".join(line.replace("\\", "\\\\") for line in lines)
        write_atomic(root / _ISSUE, f"{text}\n\n")
    else:
        (root / _ISSUE).unlink(missing_ok=True)
        print(f"seed {config.device} is good; inference: {config.source}")
    counts = Counter(one.key for one in problems)
    metrics.write(
        "seed",
        {
            metrics.SEED_ERROR: {(): int(bool(problems))},
            metrics.CONFIG_ERRORS: {(("key", key),): n for key, n in sorted(counts.items())},
        },
        root,
    )


def console_lines(problems: list[Problem], config: NodeConfig) -> list[str]:
    """Return what the console says about a bad seed; nothing about a good one."""
    if not problems:
        return []
    told = [f"seed: {one}" for one in problems[:_ON_CONSOLE]]
    if len(problems) > _ON_CONSOLE:
        told.append(f"seed: and {len(problems) - _ON_CONSOLE} more: imgnode status")
    told = ["".join(c if c.isprintable() else "?" for c in line) for line in told]
    kept = f"; from the last good seed: {', '.join(config.replaced)}" if config.replaced else ""
    return [*told, f"seed: inference comes from: {config.source}{kept}"]

"""Judges the files of a seed. Nothing here reads a disk; builder and node judge alike.

What a seed says is taken key by key: a mistake in one key costs that key, a file that
cannot be read at all costs that file. What is lost comes from the last good seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imgnode import backupconfig, inference, strictyaml
from imgnode.backupconfig import Backup
from imgnode.cloudkeys import check_meta, check_network, check_user, known_user_keys
from imgnode.inference import Inference
from imgnode.problems import Problem, key_name

USER, META, NETWORK = "user-data", "meta-data", "network-config"
_KIB = 1024
LIMITS: Mapping[str, int] = {USER: 1024 * _KIB, META: 64 * _KIB, NETWORK: 256 * _KIB}
NOT_READ = "vendor-data"
HEADER = "#cloud-config"
_AT_THE_TOP = ""  # in place of a key: something beside all keys could not be taken
_CHECKS: Mapping[str, Callable[[Mapping[str, object]], list[Problem]]] = {
    META: check_meta,
    NETWORK: check_network,
}


@dataclass(frozen=True)
class Seed:
    """What the files of one seed say.

    `parts` has the usable values of each file that can be read; `broken` names the files
    that cannot, and the keys of user-data that are faulty. `inference` and `backup` are None
    where they are faulty, or missing beside something at the top that may have been meant.
    """

    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    inference: Inference | None = None
    backup: Backup | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def user(self) -> Mapping[str, Any]:
        """The usable keys of user-data for cloud-init."""
        return self.parts.get(USER, {})


def judge(files: Mapping[str, bytes], *, gpus: int | None) -> Seed:
    """Return what the files of a seed say, and every mistake in them. Never raises for those.

    `gpus` is how many the node's profile has, None where that is not known.
    """
    seed = _judge_user(files[USER], gpus) if USER in files else Seed()
    parts, broken, problems = dict(seed.parts), set(seed.broken), list(seed.problems)
    for name, check in _CHECKS.items():
        if name not in files:
            continue
        values, _, found = _file(name, files[name])
        found += check(values) if values is not None else []
        if values is None or found:
            broken.add(name)
        else:
            parts[name] = values
        problems += found
    if files.get(NOT_READ, b"").strip():
        problems.append(Problem(NOT_READ, "is not read on this node", f"put it into {USER}"))
    return Seed(parts, frozenset(broken), seed.inference, seed.backup, tuple(problems))


def _judge_user(data: bytes, gpus: int | None) -> Seed:
    values, broken, problems = _file(USER, data)
    if values is None:
        return Seed(broken=frozenset({USER}), problems=tuple(problems))
    lost = _AT_THE_TOP in broken
    broken.discard(_AT_THE_TOP)
    told = {one.key for one in problems}
    wrong = check_user(values)
    config, faults = inference.check(values.get(inference.KEY), gpus=gpus)
    backup, flaws = backupconfig.check(values.get(backupconfig.KEY))
    problems += [one for one in (*wrong.values(), *faults, *flaws) if one.key not in told]
    broken |= {*wrong, *([inference.KEY] if faults else [])}
    broken |= {backupconfig.KEY} if flaws else set()
    known = known_user_keys()
    lost = lost or any(key not in known for key in wrong)
    config = None if _missed(inference.KEY, values, broken, lost=lost) else config
    backup = None if _missed(backupconfig.KEY, values, broken, lost=lost) else backup
    usable = {key: one for key, one in values.items() if key in known and key not in broken}
    return Seed({USER: usable}, frozenset(broken), config, backup, tuple(problems))


def _missed(key: str, values: Mapping[str, Any], broken: set[str], *, lost: bool) -> bool:
    return key in broken or (key not in values and lost)


def _file(name: str, data: bytes) -> tuple[dict[str, Any] | None, set[str], list[Problem]]:
    """Return the map in a file, its keys that lost something in reading, and the problems."""
    if len(data) > LIMITS[name]:
        fact = f"is larger than {LIMITS[name] // _KIB} KiB"
        return None, set(), [Problem(name, fact, "is it the right file?")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fact = f"line {line}: byte {data[error.start]:#04x} is not UTF-8"
        return None, set(), [Problem(name, fact, "save the file as UTF-8")]
    if name == USER and text.partition("\n")[0].rstrip() != HEADER:
        hint = f"put {HEADER} on line 1"
        return None, set(), [Problem(name, f"the first line is not {HEADER}", hint)]
    return _mapping(name, text)


def _mapping(name: str, text: str) -> tuple[dict[str, Any] | None, set[str], list[Problem]]:
    refused: list[strictyaml.Refused] = []
    try:
        value = strictyaml.parse(text, refused.append)
    except strictyaml.NotYaml as error:
        line, fact, hint = strictyaml.explain(text, error)
        where = f"line {line}: " if line else ""
        return None, set(), [Problem(name, f"{where}{fact}", hint)]
    problems = [_refused(name, one) for one in refused]
    if value is None and not refused:
        return {}, set(), []
    if not isinstance(value, dict):
        hint = "write keys, such as `hostname: gpu-07`"
        return None, set(), [*problems, Problem(name, "is not a map", hint)]
    lost = {str(one.place[0]) if one.place else _AT_THE_TOP for one in refused}
    return value, lost, problems


def _refused(name: str, one: strictyaml.Refused) -> Problem:
    """Return the problem with a place in a file; in user-data, keyed by the place."""
    if name != USER or not one.place:
        return Problem(name, f"line {one.line}: {one.fact}", one.hint)
    secret = one.place[0] == backupconfig.KEY  # whoever mistypes an address may paste a password
    secret = secret or (len(one.place) > 1 and one.place[1] in inference.SECRETIVE)
    fact = "this value cannot be taken" if secret else one.fact
    key = ".".join(key_name(str(part)) for part in one.place)
    return Problem(key, f"line {one.line}: {fact}", one.hint)

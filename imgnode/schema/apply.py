"""Brings the state on /var to the form that this version knows, or back to it, at each boot.

Nothing reads the state before this has run (imgnode-schema.service), so places are replaced one by
one: what is to be done stands in a file first, and is done again from its beginning after a power
cut. What an older version left is kept until this one is good.

    schema             the number of the form
    .schema/kept.json  a whole copy of the older form in `kept/`
    .schema/next.json  the places are being replaced from `new/` or `kept/`
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from imgnode import process
from imgnode.bootentries import entry_of
from imgnode.files import flush_folder, write_atomic
from imgnode.identity import read_entry
from imgnode.layers.versions import running_stem
from imgnode.schema.table import FIRST, TABLE, Migration

HOME = Path("var/lib/imgnode")
NUMBER = HOME / "schema"
WORK = HOME / ".schema"
_KEPT, _NEW = "kept", "new"
_KEPT_FILE, _NEXT_FILE = WORK / "kept.json", WORK / "next.json"
_PLACE = re.compile(r"[a-z][a-z0-9_.-]*(/[a-z][a-z0-9_.-]*)*")
_COMMAND_S = 600
Table = Mapping[int, Migration]


@dataclass(frozen=True)
class Standing:
    """The form that is there, the newest one this version knows, and an older one that is kept."""

    number: int
    known: int
    kept: int | None = None
    done: str | None = None


@dataclass(frozen=True)
class _Order:
    """A form, and the places that differ in it; `source` is the folder that holds them."""

    number: int
    source: str
    places: tuple[str, ...]


def apply(root: Path = Path("/"), table: Table = TABLE) -> Standing:
    """Have the state in this version's form, and return how it stands.

    A form that is newer than any known stays as it is, unless the older one was kept. Raises
    ValueError for a number that cannot be read, OSError, and what a migration raises; the state is
    then as it was.
    """
    _finish(root)
    number, known, kept, done = read_number(root), max(table), _read(_KEPT_FILE, root), None
    if number < known:
        done = f"brought from {number} to {known}"
        _forward(number, table, kept, root)
    elif kept and (number > known or kept.number >= known):
        done = f"{kept.number} again, as before a version that did not stay"
        _replace(kept, root)
    elif kept and read_entry(root) is None:  # good, and cut off before `settle`
        _forget(root)
    elif not (root / NUMBER).exists():
        _write_number(number, root)
    left = _read(_KEPT_FILE, root)
    if left is None:
        shutil.rmtree(root / WORK, ignore_errors=True)
    return Standing(read_number(root), known, left.number if left else None, done)


def settle(root: Path = Path("/"), table: Table = TABLE) -> bool:
    """Remove the older form if the running version is good by now; tell whether it went.

    Raises OSError, or ValueError for what cannot be read.
    """
    kept, entry = _read(_KEPT_FILE, root), entry_of(running_stem(root), root)
    if kept is None or entry is None or entry.left is not None:
        return False
    if not kept.number < read_number(root) == max(table):
        return False
    _forget(root)
    shutil.rmtree(root / WORK)
    return True


def read_number(root: Path = Path("/")) -> int:
    """Return the form of the state; the first where none is written. Raises OSError, ValueError."""
    try:
        text = (root / NUMBER).read_text()
    except FileNotFoundError:
        return FIRST
    if not re.fullmatch(r"[1-9][0-9]{0,5}\n", text):
        raise ValueError(f"/{NUMBER} holds no number, but {text[:40]!r}")
    return int(text)


def _forward(number: int, table: Table, kept: _Order | None, root: Path) -> None:
    """Migrate a copy, and put it in the state's place."""
    steps = [table[one] for one in range(number + 1, max(table) + 1)]
    places = tuple(sorted({place for step in steps for place in step.places}))
    old, new = _Order(number, _KEPT, places), root / WORK / _NEW
    # On trial, an earlier try was cut off: that copy has seen nothing of this version.
    if kept != old or read_entry(root) is None:
        _forget(root)
        _copy(places, root / HOME, root / WORK / _KEPT)
        _write(_KEPT_FILE, old, root)
    shutil.rmtree(new, ignore_errors=True)
    _copy(places, root / WORK / _KEPT, new)
    for step in steps:
        step.change(new)
    _replace(_Order(max(table), _NEW, places), root)


def _replace(order: _Order, root: Path) -> None:
    _write(_NEXT_FILE, order, root)
    _finish(root)


def _finish(root: Path) -> None:
    """Do what was begun, all of it again: until the end nothing of its source is used up."""
    order = _read(_NEXT_FILE, root)
    if order is None:
        return
    _copy(order.places, root / WORK / order.source, root / HOME)
    _sync(root)
    _write_number(order.number, root)
    if order.source == _KEPT:
        (root / _KEPT_FILE).unlink(missing_ok=True)
    (root / _NEXT_FILE).unlink()
    flush_folder(root / WORK)
    shutil.rmtree(root / WORK / order.source, ignore_errors=True)


def _forget(root: Path) -> None:
    (root / _KEPT_FILE).unlink(missing_ok=True)
    shutil.rmtree(root / WORK / _KEPT, ignore_errors=True)


def _copy(places: tuple[str, ...], source: Path, target: Path) -> None:
    """Make `target` have each place as `source` has it, or not at all. Raises OSError."""
    for place in places:
        old, new = source / place, target / place
        new.parent.mkdir(parents=True, exist_ok=True)
        if new.is_dir() and not new.is_symlink():
            shutil.rmtree(new)
        else:
            new.unlink(missing_ok=True)
        if old.exists() or old.is_symlink():
            _run("cp", "--archive", "--no-target-directory", str(old), str(new))


def _write_number(number: int, root: Path) -> None:
    write_atomic(root / NUMBER, f"{number}\n")


def _write(path: Path, order: _Order, root: Path) -> None:
    """Write a mark; what it tells of is on the disk before it."""
    _sync(root)
    write_atomic(root / path, json.dumps(asdict(order)) + "\n", 0o600)


def _read(path: Path, root: Path) -> _Order | None:
    """Return a mark, None where there is none. Raises ValueError for one that is damaged."""
    try:
        values = json.loads((root / path).read_text())
    except FileNotFoundError:
        return None
    try:
        order = _Order(int(values["number"]), values["source"], tuple(values["places"]))
        good = order.source in (_KEPT, _NEW) and all(map(_PLACE.fullmatch, order.places))
    except (KeyError, TypeError):
        good = False
    if not good:
        raise ValueError(f"/{path} cannot be understood")
    return order


def _sync(root: Path) -> None:
    (root / HOME).mkdir(parents=True, exist_ok=True)
    _run("sync", "--file-system", str(root / HOME))


def _run(*argv: str) -> None:
    done = process.run(argv, timeout_s=_COMMAND_S)
    if done.rc:
        raise OSError(done.rc, " ".join(done.stderr.split())[-200:] or f"{argv[0]} failed")

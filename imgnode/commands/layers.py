"""`imgnode layers`: what lies outside the root: container layers and models."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from imgnode.commands.group import Commands, group
from imgnode.layers import versions
from imgnode.layers.apply import apply
from imgnode.layers.look import look, verify
from imgnode.layers.report import Outcome, Report, tell
from imgnode.layers.store import Store, locked
from imgnode.payload import read_payload

_ROOT = Path("/")
_UNIT = 1024


def add(commands: Commands) -> None:
    """Add the subcommands."""
    layers = group(commands, "layers", "container layers and models, outside the root")
    one = layers.add_parser("apply", help="fetch, mount, seed Docker, remove what is not needed")
    one.set_defaults(run=_careful(lambda _: _end(apply())))
    one = layers.add_parser("status", help="how each file stands")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_careful(_status))
    one = layers.add_parser("verify", help="read every file in full")
    one.add_argument("--repair", action="store_true", help="replace what is bad")
    one.set_defaults(run=_careful(lambda arguments: _end(verify(repair=arguments.repair))))
    one = layers.add_parser("gc", help="remove files that no installed version needs")
    one.add_argument("--dry-run", action="store_true", help="only say which")
    one.set_defaults(run=_careful(_gc))


def _careful(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Say in one line what the disk refused, such as for want of root's rights."""

    def guarded(arguments: argparse.Namespace) -> None:
        try:
            run(arguments)
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename}: {error.strerror}") from error

    return guarded


def _end(report: Report) -> None:
    tell(report)
    if not report.good:
        raise SystemExit(1)


def _status(arguments: argparse.Namespace) -> None:
    container = read_payload(_ROOT).container
    outcomes = look(_ROOT)
    if arguments.json:
        image = container and {"reference": container.reference, "image_id": container.image_id}
        print(json.dumps({"files": [_facts(one) for one in outcomes], "image": image}, indent=1))
        return
    for line in table(outcomes):
        print(line)
    if container:
        short = container.image_id[:12]
        print(f"Docker should list {container.repository}:{container.tag} ({short})")
    if not outcomes:
        print("this version has nothing outside its root")


def table(outcomes: list[Outcome]) -> list[str]:
    """Return the lines that people read: what, short hash, size, state."""
    rows = [
        (one.what, one.file.root_hash[:12], _size(one.file.bytes), str(one.state))
        for one in outcomes
    ]
    width = max((len(row[0]) for row in rows), default=0)
    return [f"{what:<{width}}  {name}  {size:>9}  {state}" for what, name, size, state in rows]


def _facts(one: Outcome) -> dict[str, object]:
    facts = {"what": one.what, "root_hash": one.file.root_hash, "bytes": one.file.bytes}
    return {**facts, "state": str(one.state)}


def _size(count: float) -> str:
    for unit in ("B", "KiB"):
        if count < _UNIT:
            return f"{count:.0f} {unit}"
        count /= _UNIT
    return f"{count:.1f} MiB" if count < _UNIT else f"{count / _UNIT:.1f} GiB"


def _gc(arguments: argparse.Namespace) -> None:
    with locked(_ROOT):
        found = versions.find_garbage(_ROOT)
        if not arguments.dry_run:
            versions.remove(found, Store(_ROOT))
    if found.blocked:
        raise SystemExit(f"imgnode: nothing is removed: {found.blocked}")
    word = "would remove" if arguments.dry_run else "removed"
    for name in (*found.files, *found.parts):
        print(f"{word} {name}")
    for stem in found.lists:
        print(f"{word} the list of {stem}")
    if found == versions.Garbage():
        print("nothing to remove")

"""Brings what lies outside the root to where containers find it, at boot and whenever asked.

One damaged or missing file costs only what needs it: the container is then not seeded at all,
never in part, while Docker and the other files come up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imgnode.layers import dockerstore, versions
from imgnode.layers.ensure import Keeper
from imgnode.layers.fetch import read_server
from imgnode.layers.report import Outcome, Report, State, publish, titles
from imgnode.layers.store import Store, locked
from imgnode.payload import Payload, read_payload
from imgnode.problems import Problem

_REPORT_IT = "the image is damaged or was built wrongly: install it again"


def apply(root: Path = Path("/")) -> Report:
    """Fetch what is missing, mount, seed Docker's store, remove what no version needs.

    Safe to repeat, with dockerd running too: it sees what was seeded when it starts next.
    Writes the metrics and returns what was found; raises OSError only for a full /run.
    """
    with locked(root):
        others = _guarded("docker", lambda: dockerstore.renew(root))
        try:
            payload = read_payload(root)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Report(others=(*others, Problem("payload", f"{error}", _REPORT_IT)))
        outcomes = _files(payload, root)
        notes: list[str] = []
        others += _guarded("docker", lambda: _seed(payload, outcomes, notes, root))
        others += _guarded("store", lambda: _tidy(payload, outcomes, notes, root))
        report = Report(outcomes, tuple(others), tuple(notes))
        publish(report, root)
    return report


def keeper(payload: Payload, root: Path) -> Keeper:
    """Return who keeps the files of a version below a root."""
    return Keeper(Store(root), read_server(root), titles(payload))


def _files(payload: Payload, root: Path) -> tuple[Outcome, ...]:
    return tuple(keeper(payload, root).ensure(payload.files)) if payload.files else ()


def _seed(
    payload: Payload, outcomes: tuple[Outcome, ...], notes: list[str], root: Path
) -> list[Problem]:
    """Seed the container's image if all its layers are mounted."""
    container = payload.container
    if container is None:
        return []
    mounted = {one.file.root_hash for one in outcomes if one.state is State.MOUNTED}
    lacking = [one.title for one in container.layers if one.root_hash not in mounted]
    name = f"{container.repository}:{container.tag}"
    if lacking:
        fact = f"{name} is not seeded, for want of: {', '.join(lacking)}"
        return [Problem("docker", fact, "see what is told about these layers")]
    written = dockerstore.seed(container, root)
    notes.append(f"docker has {name} ({written} entries written)")
    if written and "dockerd" in dockerstore.daemons(root):
        notes.append("dockerd runs and sees this when it starts next: systemctl restart docker")
    return []


def _tidy(
    payload: Payload, outcomes: tuple[Outcome, ...], notes: list[str], root: Path
) -> list[Problem]:
    """Note what this version needs, and remove what no installed one does."""
    store = Store(root)
    if not store.folder.is_dir() and not payload.files:
        return []
    versions.write_list(versions.running_stem(root), [one.name for one in payload.files], store)
    if all(one.state is State.MOUNTED for one in outcomes):
        store.forget_bad()
    found = versions.find_garbage(root)
    versions.remove(found, store)
    notes.append(
        f"{len(outcomes)} files, {sum(o.state is State.MOUNTED for o in outcomes)} mounted"
    )
    if found.files:
        notes.append(f"removed, since no installed version needs it: {', '.join(found.files)}")
    if found.blocked:
        notes.append(f"nothing is removed: {found.blocked}")
    return []


def _guarded(key: str, step: Callable[[], list[Problem]]) -> list[Problem]:
    """Let a step fail without the others."""
    try:
        return step()
    except OSError as error:
        return [Problem(key, f"{error.filename or 'disk'}: {error.strerror}", "df; dmesg")]
    except (ValueError, KeyError, TypeError) as error:
        return [Problem(key, f"{type(error).__name__}: {error}", _REPORT_IT)]

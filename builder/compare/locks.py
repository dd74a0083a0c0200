"""What is different between two locks, line by line."""

from __future__ import annotations

from collections.abc import Iterable

from builder.model.lock import Lock, LockedContainer, LockedPackage, LockedWheel

_IMAGE = "image"
_SHORT = 12


def lock_changes(old: Lock | None, new: Lock) -> list[str]:
    """Return a line for each change; without an old lock, how much is locked.

    A line about a package holds for the image and every other tree that it is in, unless
    brackets name the trees.
    """
    if old is None:
        wheels = len(new.wheels) + (len(new.container.wheels) if new.container else 0)
        more = f", {wheels} wheels" if wheels else ""
        return [f"{len(new.packages)} packages{more} locked"]
    lines = [*_packages(old, new), *_container(old.container, new.container)]
    lines += _wheels("node", "wheel of the node", old.wheels or None, new.wheels or None)
    for name in sorted(old.bundles.keys() | new.bundles.keys()):
        before, after = old.bundles.get(name), new.bundles.get(name)
        lines += _wheels(f"model bundle {name}", f"model {name}", before, after)
    return lines or ["nothing changed"]


def _packages(old: Lock, new: Lock) -> list[str]:
    lines = [_whole(tree, old, new) for tree in _appearing(old, new)]
    whole = _appearing(old, new)
    before, after = _by_place(old), _by_place(new)
    places: dict[str, list[str]] = {}
    for name, tree in sorted(before.keys() | after.keys()):
        places.setdefault(name, []).append(tree)
    for name, trees in places.items():
        found: dict[str, list[str]] = {}
        for tree in trees:
            change = _change(before.get((name, tree)), after.get((name, tree)))
            if change and tree not in whole:
                found.setdefault(change, []).append(tree)
        for change, where in found.items():
            everywhere = where == trees and _IMAGE in where
            lines.append(f"{name}: {change}" + ("" if everywhere else f" ({', '.join(where)})"))
    return lines


def _appearing(old: Lock, new: Lock) -> list[str]:
    """Return the trees that only one of the locks has: they are told in one line."""
    sets = [{tree for one in lock.packages for tree in one.trees} for lock in (old, new)]
    return sorted(sets[0] ^ sets[1])


def _whole(tree: str, old: Lock, new: Lock) -> str:
    count = [sum(tree in one.trees for one in lock.packages) for lock in (old, new)]
    return f"{tree}: {_count(count[0])} → {_count(count[1])}"


def _count(packages: int) -> str:
    return f"{packages} packages" if packages else "no packages"


def _by_place(lock: Lock) -> dict[tuple[str, str], LockedPackage]:
    """Return each package by its name and tree: two trees may have two versions of one."""
    return {(_name(one), tree): one for one in lock.packages for tree in one.trees}


def _name(package: LockedPackage) -> str:
    own = package.arch in ("amd64", "all")
    return package.name if own else f"{package.name}:{package.arch}"


def _change(
    old: LockedPackage | LockedWheel | None, new: LockedPackage | LockedWheel | None
) -> str | None:
    """Return what became of one package or wheel; None where nothing did."""
    if old and new and old.version == new.version:
        return None if old.sha256 == new.sha256 else f"{new.version}, another file"
    return f"{old.version if old else 'new'} → {new.version if new else 'gone'}"


def _container(old: LockedContainer | None, new: LockedContainer | None) -> list[str]:
    sources = old.source if old else "none", new.source if new else "none"
    lines = [f"container: {sources[0]} → {sources[1]}"] if sources[0] != sources[1] else []
    digests = [f"sha256:{one.digest[:_SHORT]}…" if one and one.digest else "" for one in (old, new)]
    if all(digests) and digests[0] != digests[1]:
        lines.append(f"container: {digests[0]} → {digests[1]}")
    wheels = [one.wheels if one and one.wheels else None for one in (old, new)]
    return lines + _wheels("container", "wheel", wheels[0], wheels[1])


def _wheels(
    whole: str, each: str, old: Iterable[LockedWheel] | None, new: Iterable[LockedWheel] | None
) -> list[str]:
    """Return the changes between two lists of wheels; a list that only one has is one line."""
    before, after = ({one.name: one for one in some or ()} for some in (old, new))
    if (old is None) != (new is None):
        counts = [f"{len(some)} wheels" if some else "no wheels" for some in (before, after)]
        return [f"{whole}: {counts[0]} → {counts[1]}"]
    changes = [(name, _change(before.get(name), after.get(name))) for name in before | after]
    return [f"{name}: {change} ({each})" for name, change in sorted(changes, key=_first) if change]


def _first(pair: tuple[str, str | None]) -> str:
    return pair[0]

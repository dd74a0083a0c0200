"""What is different inside two root file systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.filesize import decimal

from builder.model.difference import Change, Contents, FileChange, SizeChange
from builder.model.inventory import FileEntry, Inventory, Port, Unit, User

T = TypeVar("T")
_SPECIAL = 0o6000  # setuid, setgid


def compare_contents(old: Inventory, new: Inventory) -> Contents:
    """Return what is different between two inventories; names are sorted."""
    files, same = _files(old.files, new.files)
    ports = [{_port_name(port): port for port in one.ports} for one in (old, new)]
    return Contents(
        files=files,
        files_same=same,
        sizes=_sizes(old, new),
        units=changes(old.units, new.units, _unit),
        ports=changes(ports[0], ports[1], _port),
        users=changes(old.users, new.users, _user),
        groups=changes(old.groups, new.groups, str),
        privileged=_privileges(old, new),
    )


def changes(
    old: Mapping[str, T], new: Mapping[str, T], tell: Callable[[T], str]
) -> tuple[Change, ...]:
    """Return what differs between two maps, by name; `tell` puts a value into words."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        was, becomes = _in_words(before, after, tell)
        found.append(Change(name=name, old=was, new=becomes))
    return tuple(found)


def _in_words(
    old: T | None, new: T | None, tell: Callable[[T], str]
) -> tuple[str | None, str | None]:
    """Return two different values in words, which differ, too."""
    was, becomes = (None if one is None else tell(one) for one in (old, new))
    return was, f"{becomes}, other content" if was == becomes else becomes


def _files(
    old: Mapping[str, FileEntry], new: Mapping[str, FileEntry]
) -> tuple[tuple[FileChange, ...], int]:
    found, same = [], 0
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before and after and _bare(before) == _bare(after):
            same += 1
            continue
        bytes_ = (after.bytes if after else 0) - (before.bytes if before else 0)
        package = next(one.package for one in (after, before) if one)
        was, becomes = _in_words(before, after, _file)
        found.append(FileChange(path=path, old=was, new=becomes, bytes=bytes_, package=package))
    return tuple(found), same


def _bare(entry: FileEntry) -> FileEntry:
    """Return the entry without its package: that is told elsewhere."""
    return entry.model_copy(update={"package": None})


def _file(entry: FileEntry) -> str:
    """Return kind, rights, owner and size in words."""
    rights = f"{entry.mode:04o} {entry.uid}:{entry.gid}"
    if entry.kind == "link":
        return f"link to {entry.content}"
    size = f" {decimal(entry.bytes)}" if entry.kind == "file" else ""
    return f"{entry.kind} {rights}{size}"


def _sizes(old: Inventory, new: Inventory) -> tuple[SizeChange, ...]:
    before, after = old.bytes_by_package(), new.bytes_by_package()
    found = [
        SizeChange(package=name, old=before.get(name, 0), new=after.get(name, 0))
        for name in before.keys() | after.keys()
        if before.get(name, 0) != after.get(name, 0)
    ]
    return tuple(sorted(found, key=lambda one: (-abs(one.new - one.old), one.package)))


def _unit(unit: Unit) -> str:
    return f"alias of {unit.content}" if unit.state == "alias" else unit.state


def _port_name(port: Port) -> str:
    return f"{port.protocol} {port.port} ({port.by})"


def _port(port: Port) -> str:
    return f"open for {', '.join(port.sources)}" if port.sources else "listens"


def _user(user: User) -> str:
    groups = f", in {', '.join(user.groups)}" if user.groups else ""
    return f"{user.uid}:{user.gid} {user.home} {user.shell}{groups}"


def _privileges(old: Inventory, new: Inventory) -> tuple[Change, ...]:
    """Return the changes of files that in one of the images have more rights than their user."""
    both = (old, new)
    paths = {path for one in both for path, entry in one.files.items() if _privileged(entry)}
    some = [{path: _bare(one.files[path]) for path in paths & one.files.keys()} for one in both]
    return changes(some[0], some[1], _rights)


def _privileged(entry: FileEntry) -> bool:
    return entry.kind == "file" and bool(entry.mode & _SPECIAL or entry.capabilities)


def _rights(entry: FileEntry) -> str:
    more = f", capabilities {entry.capabilities}" if entry.capabilities else ""
    return f"{entry.mode:04o} {entry.uid}:{entry.gid}{more}"

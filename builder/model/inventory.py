"""What is inside a root file system, as values that can be compared and counted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from builder.model.base import Closed

FileKind = Literal["file", "link", "folder", "device", "pipe", "socket"]
UnitState = Literal["enabled", "disabled", "static", "masked", "alias"]


class FileEntry(Closed):
    """One path of a root file system."""

    kind: FileKind
    mode: int = Field(description="permission bits, setuid, setgid and sticky included")
    uid: int
    gid: int
    bytes: int = Field(0, description="size of a file's content")
    content: str | None = Field(
        None, description="SHA-256 of a file, target of a link, none for others"
    )
    package: str | None = Field(None, description="Debian package that brings it")
    capabilities: str | None = Field(
        None, description="security.capability as it is stored, in hexadecimal (capabilities(7))"
    )


class Unit(Closed):
    """One systemd unit: whether it is started, and a digest of its text with all drop-ins."""

    state: UnitState
    content: str


class Port(Closed):
    """One port that the firewall opens, or that a socket unit listens at."""

    protocol: str = Field(description="tcp, udp, or unix")
    port: str = Field(description="number, or path of a socket")
    by: str = Field(description="`firewall`, or name of the socket unit")
    sources: tuple[str, ...] = Field((), description="addresses that the firewall lets in")


class User(Closed):
    """One account (passwd(5)), and the groups that list it (group(5))."""

    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[str, ...] = ()


class Inventory(Closed):
    """All that is told of a root file system; keys are paths without a leading slash, or names."""

    files: dict[str, FileEntry]
    units: dict[str, Unit]
    ports: tuple[Port, ...]
    users: dict[str, User]
    groups: dict[str, int]

    def bytes_by_package(self) -> dict[str, int]:
        """Return the bytes of all files by the package that brings them; "" brings the rest."""
        found: dict[str, int] = {}
        for entry in self.files.values():
            owner = entry.package or ""
            found[owner] = found.get(owner, 0) + entry.bytes
        return found

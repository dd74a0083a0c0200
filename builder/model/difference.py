"""What is different between two images: what `imgbuild diff` tells."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from builder.model.base import Closed

Kind = Literal["root", "uki", "layer", "model"]


class Part(Closed):
    """One file that a node gets; `content` names its bytes, so equal ones are not moved."""

    kind: Kind
    title: str = Field(description="what it holds, for people")
    content: str = Field(description="SHA-256 of the file")
    bytes: int = Field(description="size of the file")
    unpacked: int | None = Field(None, description="size of what is in it, where that is known")


class Fact(Closed):
    """One line about the images themselves."""

    name: str
    old: str | None
    new: str | None


class PackageChange(Closed):
    """One package; None: it is not in that image."""

    name: str
    old: str | None
    new: str | None
    rebuilt: bool = Field(False, description="the version is the same, the file is another one")


class Fate(Closed):
    """One layer or model, and which of the two images has it."""

    part: Part
    fate: Literal["shared", "new", "gone"]


class Moved(Closed):
    """What an update moves of one kind, of all that the new image has of it."""

    kind: Kind
    bytes: int
    of: int


class Change(Closed):
    """Something that has a name; None: that image has no such thing."""

    name: str
    old: str | None
    new: str | None


class FileChange(Closed):
    """One path whose kind, rights, owner or content are different."""

    path: str
    old: str | None = Field(description="as people read it: kind, rights, owner, size")
    new: str | None
    bytes: int = Field(description="size in the new image less that in the old one")
    package: str | None = Field(description="Debian package that brings it")


class SizeChange(Closed):
    """Unpacked bytes of one package in the root; an empty name: what no package brings."""

    package: str
    old: int
    new: int


class Contents(Closed):
    """What is different inside the two root file systems."""

    files: tuple[FileChange, ...]
    files_same: int
    sizes: tuple[SizeChange, ...] = Field(description="largest difference first")
    units: tuple[Change, ...]
    ports: tuple[Change, ...]
    users: tuple[Change, ...]
    groups: tuple[Change, ...]
    privileged: tuple[Change, ...] = Field(
        description="files with setuid, setgid or capabilities: every change of one"
    )


class ChangelogEntry(Closed):
    """One version of a Debian changelog."""

    version: str
    urgency: str
    date: str
    text: str
    cves: tuple[str, ...] = Field(description="CVE numbers that the text names, sorted")


class Changelog(Closed):
    """What Debian says of the versions between two, newest first; for all packages of a source."""

    source: str
    packages: tuple[str, ...]
    old: str
    new: str
    taken_back: bool = Field(False, description="the new image has the older version")
    entries: tuple[ChangelogEntry, ...]

    @property
    def cves(self) -> tuple[str, ...]:
        """All CVE numbers that the entries name."""
        return tuple(sorted({cve for entry in self.entries for cve in entry.cves}))


class Difference(Closed):
    """Everything that `imgbuild diff` tells."""

    facts: tuple[Fact, ...]
    packages: tuple[PackageChange, ...]
    packages_same: int = Field(description="packages that both have, in the same file")
    files: tuple[Fate, ...] = Field(description="layers and models")
    update: tuple[Moved, ...] = Field(description="bytes that an update moves, by kind")
    update_bytes: int = Field(description="bytes that an update moves, together")
    full_bytes: int = Field(description="bytes of the whole new image")
    changelogs: tuple[Changelog, ...] = Field((), description="of packages with another version")
    contents: Contents | None = Field(None, description="none: a root image is not at hand")
    kernel: tuple[Change, ...] | None = Field(
        None, description="options of the kernel; none: a kernel package is not at hand"
    )
    not_told: tuple[str, ...] = Field((), description="what could not be compared, and why")

"""What a check hands over, and the contract that each check keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

OK, IMAGE, CONFIG, HARDWARE, EXTERNAL = CLASSES = (
    "ok",  # nothing is wrong: bless
    "image",  # this version's matter: go back to the previous one
    "config",  # the seed's or a setting's: keep the image, tell
    "hardware",  # this machine's: keep the image, take no work
    "external",  # the network's, a mirror's, room on the disk: keep the image, go on trying
)


@dataclass(frozen=True)
class Finding:
    """One piece of evidence: the check that has it, whose matter it is, what to do about it.

    A finding of class OK is a note: it weighs nothing.
    """

    check: str
    whose: str
    fact: str
    hint: str | None = None

    def __str__(self) -> str:
        """Return the one line that people read."""
        return f"{self.fact} (hint: {self.hint})" if self.hint else self.fact


@dataclass(frozen=True)
class Waiting:
    """What a check waits for, and what it means should that not come in time.

    `free` is time that does not count against the check's limit: something is being fetched.
    """

    text: str
    late: Finding
    free: bool = False


@dataclass(frozen=True)
class Look:
    """What one look found. While `waiting` is set, the check wants another look."""

    findings: tuple[Finding, ...] = ()
    waiting: Waiting | None = None


class Check(Protocol):
    """One thing that must be as it should.

    `look` takes minutes at most, writes nothing that lasts, and may raise OSError or ValueError
    where the image's own files are damaged. `limit_s` is how long the check may wait in all.
    """

    @property
    def name(self) -> str:
        """The name, as it stands in findings."""

    @property
    def limit_s(self) -> float:
        """How long it may wait in all, in seconds."""

    def look(self) -> Look:
        """Look once."""

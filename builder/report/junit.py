"""Counts what a test run said, in JUnit's XML (pytest --junitxml), for people."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError

_ROOM = 2  # parts of a test's module that name its room: tests.unit is unit
_BAD = ("failure", "error")


@dataclass(frozen=True)
class Room:
    """The tests of one room: how many passed, failed and were skipped, and seconds."""

    room: str
    passed: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class Results:
    """All rooms, and the names of the tests that failed."""

    rooms: tuple[Room, ...]
    failed: tuple[str, ...]


def read_tests(paths: Iterable[Path]) -> Results | None:
    """Return the summary of test runs; None without any. Raises UserError for a bad file."""
    cases = [case for path in paths for case in _cases(path)]
    if not cases:
        return None
    rooms: dict[str, list[ET.Element]] = {}
    for case in cases:
        rooms.setdefault(_room(case), []).append(case)
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if _is_bad(case)]
    return Results(tuple(_counted(*pair) for pair in sorted(rooms.items())), tuple(failed))


def _cases(path: Path) -> list[ET.Element]:
    hint = "pytest --junitxml FILE writes it"
    try:
        text = path.read_text()
        if "<!DOCTYPE" in text:  # no entities: nothing can grow
            raise UserError(f"{path}: has a DOCTYPE", hint=hint)
        found = list(ET.fromstring(text).iter("testcase"))  # noqa: S314 - see above
    except (OSError, UnicodeDecodeError, ET.ParseError) as error:
        raise UserError(f"{path}: is no result of tests: {error}", hint=hint) from None
    if not found:
        raise UserError(f"{path}: has no test in it", hint=hint)
    return found


def _room(case: ET.Element) -> str:
    name = ".".join(case.get("classname", "").split(".")[:_ROOM])
    return name.removeprefix("tests.") or "tests"


def _counted(room: str, cases: list[ET.Element]) -> Room:
    failed = sum(_is_bad(case) for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    seconds = sum(_seconds(case) for case in cases)
    return Room(room, len(cases) - failed - skipped, failed, skipped, seconds)


def _is_bad(case: ET.Element) -> bool:
    return any(case.find(name) is not None for name in _BAD)


def _seconds(case: ET.Element) -> float:
    try:
        return float(case.get("time", "0"))
    except ValueError:
        return 0.0

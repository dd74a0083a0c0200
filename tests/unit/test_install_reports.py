"""The last word of an installation, and servers that do not hear it."""

from __future__ import annotations

from typing import Any

import pytest

from imgnode.install import report
from imgnode.install.report import Identity, Reporter
from tests.unit.install_room import listening
from tests.unit.test_install import loopback

__all__ = ["loopback"]


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(("statuses", "asked"), [((502, 500, 204), 3), ((404,), 1), ((204,), 1)])
def test_that_it_is_done_is_said_until_the_server_takes_it(
    statuses: tuple[int, ...], asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_AGAIN_S", 0.01)
    posts: list[dict[str, Any]] = []
    with listening(posts, *statuses) as address:
        Reporter(address, Identity("S1", "", ()), lambda _: None).end(text="2026.1")
    assert [one["phase"] for one in posts] == ["done"] * asked


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("kind", [None, "fetch"])
def test_a_machine_does_not_wait_for_its_server_for_ever(
    kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_AGAIN_S", 0.01)
    monkeypatch.setattr(report, "_LAST_S", 0.05)
    posts: list[dict[str, Any]] = []
    with listening(posts, 502) as address:
        Reporter(address, Identity("S1", "", ()), lambda _: None).end(kind, "x")
    assert len(posts) == 1 if kind else len(posts) > 1

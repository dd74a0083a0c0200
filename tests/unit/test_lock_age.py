"""Dates of suites: what the mirror has, what a lock knows, and which may not go back."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import requests
import urllib3

from builder.core.errors import UserError
from builder.lock.age import check_no_older, lock_ages, mirror_ages, stale_suites
from builder.model.lock import Lock, LockedArchive, LockedSuite
from tests.unit.fakes import EPOCH, FakeRunner, lock, site, spec


class Mirror:
    """Answers requests.get by address; what is an exception is raised."""

    def __init__(self, **answers: object) -> None:
        self.asked: dict[str, dict[str, object]] = {}
        self._answers = answers

    def get(self, url: str, **options: object) -> requests.Response:
        self.asked[url] = options
        suite = url.split("/")[-2].replace("-", "_")
        answer = self._answers[suite]
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.url = url
        response.status_code = answer if isinstance(answer, int) else 200
        response.raw = io.BytesIO(answer.encode()) if isinstance(answer, str) else answer
        return response


class Stalling:
    """A connection that opens and then says nothing."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        pool = urllib3.HTTPConnectionPool("mirror.example")
        raise urllib3.exceptions.ReadTimeoutError(pool, "/", "Read timed out.")

    def close(self) -> None:
        """Nothing is open."""


NEWER = "Origin: Debian\nDate: Fri, 02 Jan 2026 12:00:00 UTC\n"
SAME = "Date: Thu, 01 Jan 2026 00:00:00 UTC\n"


def stale(monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> list[str]:
    monkeypatch.setattr(requests, "get", mirror.get)
    return stale_suites(mirror_ages(FakeRunner(), spec(), lock()))


def test_a_newer_suite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(bookworm=SAME, bookworm_updates=NEWER)
    assert stale(monkeypatch, mirror) == [
        "bookworm-updates: locked 2026-01-01 00:00, mirror 2026-01-02 12:00"
    ]
    assert list(mirror.asked) == [
        f"https://mirror.example/debian/dists/{suite}/InRelease"
        for suite in ("bookworm", "bookworm-updates")
    ]
    assert all(options["timeout"] for options in mirror.asked.values())


@pytest.mark.parametrize(
    "answer",
    [requests.ConnectionError("down"), requests.Timeout(), 404, "<html>log in</html>", "",
     "Date: never\n", Stalling()],
    ids=["down", "slow", "404", "login page", "empty", "no date", "stalls"],
)  # fmt: skip
def test_a_mirror_that_does_not_answer_says_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    mirror = Mirror(bookworm=answer, bookworm_updates=NEWER)
    assert len(stale(monkeypatch, mirror)) == 1


def test_the_sites_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(bookworm=SAME, bookworm_updates=SAME)
    monkeypatch.setattr(requests, "get", mirror.get)
    where = spec(site=site(proxy={"https": "http://proxy:3128"}))
    mirror_ages(FakeRunner(), where, lock())
    (first, _) = mirror.asked.values()
    assert first["proxies"] == {"http": "", "https": "http://proxy:3128"}


def test_a_flat_archive_is_asked_at_its_top(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(flat=NEWER)
    monkeypatch.setattr(requests, "get", mirror.get)
    uri = "https://mirror.example/flat"
    archive = {"uri": uri, "suites": ["/"], "components": [], "keyring": "k"}
    suites = (LockedSuite(suite="/", date=EPOCH),)
    known = lock().model_copy(update={"archives": (LockedArchive(uri=uri, suites=suites),)})
    ages = mirror_ages(FakeRunner(), spec(site=site(archives=[archive])), known)
    assert list(mirror.asked) == [f"{uri}/InRelease"]
    assert stale_suites(ages) == [f"{uri}: locked 2026-01-01 00:00, mirror 2026-01-02 12:00"]


def _moved(old: Lock) -> Lock:
    archive = old.archives[0].model_copy(update={"uri": "https://snapshot.example/"})
    return old.model_copy(update={"archives": (archive,)})


def test_no_suite_may_be_older_than_it_was() -> None:
    old, new = lock(date=EPOCH), lock(date=EPOCH - 3600)
    with pytest.raises(UserError, match="older than the lock") as caught:
        check_no_older(lock_ages(old, new))
    told = "    bookworm-updates: locked 2026-01-01 00:00, mirror 2025-12-31 23:00"
    assert caught.value.what.splitlines()[-1] == told
    assert "--allow-older" in str(caught.value.hint)


def test_the_same_date_or_a_newer_one_may_stand() -> None:
    check_no_older(lock_ages(lock(), lock()))
    check_no_older(lock_ages(lock(), lock(date=EPOCH + 1)))


def test_another_address_is_another_history() -> None:
    """A move to a snapshot goes back on purpose."""
    check_no_older(lock_ages(lock(), _moved(lock(date=EPOCH - 3600))))

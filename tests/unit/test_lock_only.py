"""What an archive may give, and the least versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.lock.indexes import Index
from builder.lock.minimum import check_minimum
from builder.lock.only import Hidden, check_addresses, check_only, hide_others
from builder.model.site import Site
from tests.unit.fakes import FakeRunner, package, site

DEBIAN, VENDOR = "https://deb.example/debian", "https://vendor.example/linux"
LIST = """\
Package: docker-ce
Version: 5:29.1.0
Description: mentions
 Package: bash

Package: bash
Version: 99

Package: docker-ce-cli
Version: 5:29.1.0
"""


def two(*only: str, uri: str = VENDOR) -> Site:
    common = {"suites": ["x"], "keyring": "k"}
    return site(archives=[{"uri": DEBIAN, **common}, {"uri": uri, "only": list(only), **common}])


def hidden(tmp_path: Path, *only: str) -> tuple[Hidden, str]:
    """Return what is hidden, and what is left of the vendor's list."""
    indexes = []
    for base in (DEBIAN, VENDOR):
        path = tmp_path / base.rpartition("/")[2]
        path.write_text(LIST)
        indexes.append(Index(base, "x", path, tmp_path / "InRelease"))
    found = hide_others(two(*only), (DEBIAN, VENDOR), indexes)
    assert (tmp_path / "debian").read_text() == LIST
    return found, (tmp_path / "linux").read_text()


def test_what_is_not_named_is_taken_out_of_the_list(tmp_path: Path) -> None:
    found, left = hidden(tmp_path, "docker-ce")
    assert left == LIST.partition("\n\n")[0] + "\n"
    assert found.names == {"bash": VENDOR, "docker-ce-cli": VENDOR}


def test_globs_name_whole_names(tmp_path: Path) -> None:
    found, left = hidden(tmp_path, "docker-*", "as?")
    assert found.names == {"bash": VENDOR}
    assert left.count("Package: docker-ce") == 2


def test_without_only_everything_may_come(tmp_path: Path) -> None:
    found, left = hidden(tmp_path)
    assert (found.names, left) == ({}, LIST)


def test_a_suite_without_a_list_is_no_trouble(tmp_path: Path) -> None:
    index = Index(VENDOR, "x", tmp_path / "none", tmp_path / "InRelease")
    assert hide_others(two("a"), (DEBIAN, VENDOR), [index]).names == {}


@pytest.mark.parametrize(
    "said",
    [
        " docker-ce : Depends: libfoo (>= 2) but it is not installable",
        "             PreDepends: libfoo but it is not going to be installed",
        "E: Unable to locate package libfoo",
        "E: Package 'libfoo' has no installation candidate",
    ],
)
def test_a_gap_that_only_makes_is_told(said: str) -> None:
    error = Hidden({"libfoo": VENDOR, "bash": VENDOR}).explained(UserError(said, hint="other"))
    told = f"    libfoo: {VENDOR} has it, but its `only` does not name it"
    assert error.what.splitlines() == [said, told]
    assert "add it to `only`" in str(error.hint)


def test_another_complaint_stays_as_it_is() -> None:
    error = UserError("E: Unable to locate package nonesuch", hint="check the name")
    assert Hidden({"libfoo": VENDOR}).explained(error) is error


def test_a_package_of_the_wrong_archive_is_named() -> None:
    where = two("docker-ce*")
    fine = [package("bash"), package("docker-ce-cli", archive=1)]
    check_only(where, fine)
    with pytest.raises(UserError, match=rf"bash 1:2\.0-1 comes from {VENDOR}") as caught:
        check_only(where, [*fine, package("bash", archive=1)])
    assert caught.value.hint


@pytest.mark.parametrize("uri", ["https://deb.example", f"{DEBIAN}/", "https://deb.example/"])
def test_an_archive_with_only_must_not_hold_another(uri: str) -> None:
    """Its list could name a file below the other's address, which would pass for the other's."""
    with pytest.raises(UserError, match="lies at or below it"):
        check_addresses(two("a", uri=uri), (DEBIAN, uri.rstrip("/")))
    check_addresses(two(uri=uri), (DEBIAN, uri.rstrip("/")))


def test_beside_or_below_another_it_may_be() -> None:
    for base in (f"{DEBIAN}-vendor", f"{DEBIAN}/vendor"):
        check_addresses(two("a", uri=base), (DEBIAN, base))


def dpkg(words: list[str]) -> str:
    """Compare as dpkg does, for versions of one digit; complain of others."""
    if not words[2].isdigit():
        raise CommandError("dpkg", "exit status 2", "bad")
    if words[2] < words[4]:
        raise CommandError("dpkg", "exit status 1", "")
    return ""


def test_the_minimum_is_asked_of_dpkg() -> None:
    runner, where = FakeRunner(dpkg), site(minimum={"alpha": "2", "other": "9"})
    check_minimum(runner, where, [package(version="2"), package("beta", version="1")])
    assert runner.calls == [["dpkg", "--compare-versions", "2", "ge", "2"]]
    with pytest.raises(UserError, match="alpha 1 is older than 2, the site's minimum") as caught:
        check_minimum(runner, where, [package(version="1")])
    assert caught.value.hint


def test_a_failure_of_dpkg_is_not_an_answer() -> None:
    with pytest.raises(CommandError, match="exit status 2"):
        check_minimum(FakeRunner(dpkg), site(minimum={"alpha": "2"}), [package(version="x")])

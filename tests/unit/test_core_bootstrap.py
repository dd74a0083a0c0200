"""Installing locked packages: nothing but these, each with its locked digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from builder.core.bootstrap import check_installed, deb_path, local_repository, mmdebstrap_argv
from builder.core.errors import UserError
from builder.model.lock import LockedPackage
from tests.unit.fakes import FakeRunner, package


def cached(cache: Path, name: str, content: bytes) -> LockedPackage:
    locked = package(name, hashlib.sha256(content).hexdigest())
    path = deb_path(cache, locked)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return locked


def test_the_repository_holds_exactly_the_packages(tmp_path: Path) -> None:
    packages = [cached(tmp_path, "alpha", b"a"), cached(tmp_path, "beta", b"b")]
    cached(tmp_path, "gamma", b"not asked for")
    folder = tmp_path / "repository"
    local_repository(FakeRunner(lambda _: "the index"), tmp_path, packages, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "Packages",
        "alpha_1%3a2.0-1_amd64.deb",
        "beta_1%3a2.0-1_amd64.deb",
    ]
    assert (folder / "alpha_1%3a2.0-1_amd64.deb").read_bytes() == b"a"
    assert (folder / "Packages").read_text() == "the index"


def test_a_damaged_file_stops_the_build_and_goes(tmp_path: Path) -> None:
    locked = cached(tmp_path, "alpha", b"a")
    deb_path(tmp_path, locked).write_bytes(b"another")
    with pytest.raises(UserError, match="the lock says") as caught:
        local_repository(FakeRunner(), tmp_path, [locked], tmp_path / "repository")
    assert caught.value.what.startswith("alpha_1%3a2.0-1_amd64.deb: SHA-256 is ")
    assert caught.value.hint is not None
    assert not deb_path(tmp_path, locked).exists()


def test_versions_are_named_exactly(tmp_path: Path) -> None:
    repository = tmp_path / "a repository"
    argv = mmdebstrap_argv(repository, [package(), package("beta")], tmp_path / "t", hooks=["--h"])
    assert "--include=alpha=1:2.0-1,beta=1:2.0-1" in argv
    assert argv[-3:-1] == ["", str(tmp_path / "t")]
    assert argv[-1] == f"deb [trusted=yes] copy:{tmp_path}/a%20repository ./"
    assert "--h" in argv


def test_what_is_installed_is_compared_with_the_lock(tmp_path: Path) -> None:
    right = "alpha 1:2.0-1 amd64 installed\n"
    check_installed(FakeRunner(lambda _: right), tmp_path, [package()])


@pytest.mark.parametrize(
    ("listing", "told"),
    [
        ("alpha 1:2.0-2 amd64 installed\n", "besides ['alpha 1:2.0-2 amd64 installed']"),
        ("alpha 1:2.0-1 amd64 half-configured\n", "half-configured"),
        ("alpha 1:2.0-1 amd64 installed\nbeta 1 all installed\n", "besides ['beta 1 all"),
        ("", "without ['alpha 1:2.0-1 amd64 installed']"),
    ],
)
def test_a_difference_stops_the_build(tmp_path: Path, listing: str, told: str) -> None:
    with pytest.raises(UserError, match="not what the lock names") as caught:
        check_installed(FakeRunner(lambda _: listing), tmp_path, [package()])
    assert told in caught.value.what

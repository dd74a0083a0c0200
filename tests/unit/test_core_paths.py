"""Where a project is found, and how errors read."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.errors import ConfigError, UserError
from builder.core.paths import Project


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "image").mkdir(parents=True)
    (root / "image/initrd.yaml").touch()
    (root / "config").mkdir()
    return root


def test_found_from_a_folder_inside(checkout: Path) -> None:
    (checkout / "overlays/base").mkdir(parents=True)
    assert Project.find(checkout / "overlays/base").root == checkout
    assert Project.find(checkout).profiles == checkout / "config/profiles"


def test_found_from_the_working_directory(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout / "config")
    assert Project.find().root == checkout


def test_the_environment_wins(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGBUILD_PROJECT", str(checkout))
    monkeypatch.chdir(tmp_path)
    assert Project.find().root == checkout


def test_paths_are_absolute_whatever_the_environment_says(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs run in other working directories, and links are made to cached files."""
    monkeypatch.chdir(checkout.parent)
    monkeypatch.setenv("IMGBUILD_PROJECT", "checkout")
    monkeypatch.setenv("IMGBUILD_CACHE", "elsewhere")
    assert Project.find().root == checkout
    assert Project.find().cache == checkout.parent / "elsewhere"


def test_the_cache_is_inside_unless_told(checkout: Path) -> None:
    assert Project(checkout).cache == checkout / ".cache/imgbuild"


def test_no_project_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not inside an imgbuild project") as caught:
        Project.find(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert caught.value.hint is not None
    assert "IMGBUILD_PROJECT" in caught.value.hint


def test_half_a_project_is_none(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/initrd.yaml").touch()
    with pytest.raises(UserError):
        Project.find(tmp_path)


def test_an_error_reads_fact_then_hint() -> None:
    assert str(UserError("a fact", hint="do this")) == "a fact (hint: do this)"
    assert str(UserError("a fact")) == "a fact"
    assert UserError("x").exit_code == 2


def test_a_config_error_holds_every_problem() -> None:
    error = ConfigError(["a: x", "b: y (hint: z)"])
    assert str(error) == "a: x\nb: y (hint: z)"
    assert error.problems == ("a: x", "b: y (hint: z)")

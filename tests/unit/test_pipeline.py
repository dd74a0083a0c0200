"""Naming an image, and an output folder that is whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from builder import pipeline
from builder.core.cache import Cache
from builder.core.context import Context
from builder.core.errors import UserError
from builder.model.artifacts import Artifact, DiskImage, Manifest
from builder.model.container import Payload
from builder.model.lock import Lock
from builder.model.spec import Spec
from builder.pipeline import _appearing, _check_out, _deliver, _holds, identify
from tests.unit.fakes import Events, context, lock, package, site, spec

TEXTS = {"provenance.json": "{}"}


@pytest.fixture
def where(tmp_path: Path) -> Context:
    for room in ("image", "overlays/base/etc", "units", "imgnode"):
        (tmp_path / room).mkdir(parents=True)
    (tmp_path / "overlays/base/etc/issue").write_text("hello\n")
    return context(tmp_path)


def version(where: Context, wanted: Spec | None = None, locked: Lock | None = None) -> str:
    return identify(where, wanted or spec(), locked or lock(), None).version


def test_a_version_is_the_locks_day_and_a_digest(where: Context) -> None:
    identity = identify(where, spec(), lock(), None)
    day, _, digest = identity.version.partition("-")
    assert day == "20260101"
    assert len(digest) == 8
    assert int(digest, 16) >= 0
    assert identity.stem == f"imgbuild-cpu_{identity.version}"
    assert identity.epoch == lock().epoch


def test_the_same_inputs_have_the_same_version(where: Context) -> None:
    before = version(where)
    assert version(where, spec(origins={"profile.disk.root": "elsewhere"})) == before


def test_every_input_changes_the_version(where: Context) -> None:
    seen = [version(where)]
    seen.append(version(where, spec(packages=["beta"])))
    seen.append(version(where, spec(site=site(ntp=["ntp.example"]))))
    seen.append(version(where, locked=lock(package("alpha", "1" * 64))))
    root = where.project.root
    for name in ("overlays/base/etc/issue", "image/users.conf", "units/x.service", "imgnode/x.py"):
        (root / name).write_text("changed\n")
        seen.append(version(where))
    (root / "overlays/base/etc/issue").chmod(0o755)
    seen.append(version(where))
    assert len(set(seen)) == len(seen)


def test_a_version_can_be_chosen(where: Context) -> None:
    assert identify(where, spec(), lock(), "2026.11.1-rc1").stem == "imgbuild-cpu_2026.11.1-rc1"


@pytest.mark.parametrize("bad", ["", "a b", "../x", "1_2", "1+3", ".1", "-1", "1/2", "é", "1\n"])
def test_characters_that_a_file_name_of_an_update_cannot_have(where: Context, bad: str) -> None:
    with pytest.raises(UserError, match="characters that file names") as caught:
        identify(where, spec(), lock(), bad)
    assert repr(bad) in caught.value.what
    assert caught.value.hint is not None


def test_a_version_that_does_not_fit_a_partition_name(where: Context) -> None:
    fits = "1" * (36 - len("imgbuild-cpu_"))
    assert len(identify(where, spec(), lock(), fits).stem) == 36
    with pytest.raises(UserError, match="37 characters, a partition name has at most 36"):
        identify(where, spec(), lock(), fits + "1")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_all_went_well(tmp_path: Path) -> None:
    out = tmp_path / "out/cpu/1"
    with _appearing(out) as folder:
        (folder / "disk.raw").write_text("x")
        assert not out.exists()
    assert names(out.parent) == ["1"]
    assert names(out) == ["disk.raw"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interruption_leaves_nothing(tmp_path: Path, stop: BaseException) -> None:
    def half(out: Path) -> None:
        with _appearing(out) as folder:
            (folder / "disk.raw").write_text("x")
            raise stop

    with pytest.raises(type(stop)):
        half(tmp_path / "out")
    assert names(tmp_path) == []


def old_image(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("manifest.json", "stale"):
        (out / name).write_text("old")
    return out


def test_an_older_image_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = old_image(tmp_path)
    with _appearing(out) as folder:
        (folder / "disk.raw").write_text("new")
        assert (out / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["out"]
    assert names(out) == ["disk.raw"]


def test_an_interruption_keeps_the_older_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = old_image(tmp_path)
    genuine = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return genuine(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), _appearing(out) as folder:
        (folder / "disk.raw").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(out) == ["manifest.json", "stale"]


def test_what_a_killed_build_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in (".out.part", ".out.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    with _appearing(tmp_path / "out") as folder:
        assert names(folder) == []
    assert names(tmp_path) == ["out"]


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("years of work")
    with pytest.raises(UserError, match="would be replaced") as caught:
        _check_out(tmp_path)
    assert caught.value.hint is not None
    with pytest.raises(UserError, match="would be replaced"):
        _check_out(tmp_path / "thesis.odt")


def test_a_new_an_empty_and_an_images_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "new", tmp_path / "empty", old_image(tmp_path)):
        _check_out(out)


def test_it_is_checked_before_any_work(
    where: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(pipeline, "enter_private_mounts", too_late)
    identity = identify(where, spec(), lock(), "1")
    with pytest.raises(UserError, match="would be replaced"):
        pipeline.build_image(where, spec(), lock(), identity, tmp_path)


def manifest() -> str:
    artifact = Artifact(name="uki.efi", bytes=3, sha256="0" * 64)
    made = Manifest(
        image_id="imgbuild-cpu",
        version="1",
        profile="cpu",
        site="debian",
        epoch=0,
        root_hash="0" * 64,
        kernel_release="6.1",
        root_bytes=1,
        root_slot_bytes=2,
        inputs={},
        payload=Payload(),
        disk=DiskImage(name="disk.raw", bytes=5, partitions=()),
        artifacts=(artifact,),
        packages=(),
    )
    return made.model_dump_json()


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    for name, text in (("manifest.json", manifest()), ("uki.efi", "uki"), ("disk.raw", "disk!")):
        (folder / name).write_text(text)
    (folder / ".bytes").write_text("8")
    return folder


def test_an_output_folder_that_holds_the_image(finished: Path) -> None:
    assert _holds(finished, manifest())


@pytest.mark.parametrize("name", ["manifest.json", "uki.efi", "disk.raw"])
def test_one_that_has_lost_a_file_or_a_part_of_one(finished: Path, name: str) -> None:
    os.truncate(finished / name, 1)
    assert not _holds(finished, manifest())
    (finished / name).unlink()
    assert not _holds(finished, manifest())


def test_no_folder_holds_nothing(tmp_path: Path) -> None:
    assert not _holds(tmp_path / "none", manifest())


def delivering(tmp_path: Path, *, fresh: bool = False) -> tuple[Context, list[str]]:
    """Return surroundings whose `cp` copies, and the list of what it was asked for."""
    copied: list[str] = []

    def copy(words: list[str]) -> str:
        source, target = words[-2:]
        Path(target).write_bytes(Path(source).read_bytes())
        copied.append(Path(source).name)
        return ""

    from_fakes = context(tmp_path)
    from_fakes.runner._answer = copy  # type: ignore[attr-defined]
    (tmp_path / "cache/locks").mkdir(parents=True, exist_ok=True)
    store = Cache(tmp_path / "cache", Events(), fresh=fresh)
    values: dict[str, Any] = {"project": from_fakes.project, "runner": from_fakes.runner}
    return Context(**values, cache=store, emit=store.emit), copied


def test_files_are_delivered_once(tmp_path: Path, finished: Path) -> None:
    where, copied = delivering(tmp_path)
    out = tmp_path / "out/1"
    assert _deliver(where, finished, (), TEXTS, out)
    assert names(out) == ["disk.raw", "manifest.json", "provenance.json", "uki.efi"]
    assert not _deliver(where, finished, (), TEXTS, out)
    (out / "provenance.json").unlink()
    assert not _deliver(where, finished, (), TEXTS, out)
    assert (out / "provenance.json").read_text() == "{}"
    assert copied == ["disk.raw", "manifest.json", "uki.efi"]


def test_a_damaged_folder_is_delivered_again(tmp_path: Path, finished: Path) -> None:
    where, _ = delivering(tmp_path)
    out = tmp_path / "out/1"
    _deliver(where, finished, (), TEXTS, out)
    (out / "disk.raw").unlink()
    assert _deliver(where, finished, (), TEXTS, out)
    assert (out / "disk.raw").read_text() == "disk!"


def test_no_cache_delivers_anew(tmp_path: Path, finished: Path) -> None:
    where, copied = delivering(tmp_path, fresh=True)
    assert _deliver(where, finished, (), TEXTS, tmp_path / "out")
    assert _deliver(where, finished, (), TEXTS, tmp_path / "out")
    assert len(copied) == 6

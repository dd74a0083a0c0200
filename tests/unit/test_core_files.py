"""Operations on files keep their promises when things go wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.core.files import (
    clamp_times,
    copy_own,
    copy_sparse,
    remove_tree,
    scratch,
    tree_bytes,
    write_atomic,
)
from tests.unit.fakes import FakeRunner


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_atomic_replaces_and_leaves_no_second_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    write_atomic(path, "one\n")
    write_atomic(path, "two\n", mode=0o600)
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_atomic_keeps_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_atomic(path, "old")
    monkeypatch.setattr(*((os, "fsync", fail) if step == "fsync" else (Path, "replace", fail)))
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_write_atomic_leaves_nothing_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "new")
    assert names(tmp_path) == []


def test_remove_tree_of_nothing_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
    (tmp_path / "a/b").mkdir(parents=True)
    remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_tree_bytes_counts_blocks_not_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(1 << 30)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/full").write_bytes(b"x" * 65536)
    assert 65536 <= tree_bytes(tmp_path) < 1 << 20


def test_clamp_times_moves_only_what_is_later(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, when in (("old", 500), ("sub/new", 5000)):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (when, when))
    (tmp_path / "link").symlink_to("nowhere")
    clamp_times(tmp_path, 1000)
    assert (tmp_path / "old").stat().st_mtime == 500
    for name in ("sub/new", "sub", "link", "."):
        assert (tmp_path / name).lstat().st_mtime == 1000, name


def test_copy_own_does_not_depend_on_the_checkout(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub/__pycache__").mkdir(parents=True)
    (source / "sub").chmod(0o700)
    for name, mode in (("plain", 0o600), ("sub/program", 0o700)):
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (source / "link").symlink_to("plain")
    copy_own(source, target)
    modes = {
        str(path.relative_to(target)): path.lstat().st_mode & 0o777
        for path in target.rglob("*")
        if not path.is_symlink()
    }
    assert modes == {"plain": 0o644, "sub": 0o755, "sub/program": 0o755}
    assert (target / "link").readlink() == Path("plain")


def test_copy_own_never_writes_through_a_link(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "resolv.conf").write_text("ours")
    (tmp_path / "host").write_text("the host's")
    (target / "resolv.conf").symlink_to(tmp_path / "host")
    copy_own(source, target)
    assert (tmp_path / "host").read_text() == "the host's"
    assert (target / "resolv.conf").read_text() == "ours"


def test_copy_own_keeps_a_merged_folder(tmp_path: Path) -> None:
    """In a root with merged /usr, `lib` is a link: files for it go where it points."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "lib").mkdir(parents=True)
    (source / "lib/file").write_text("x")
    (target / "usr/lib").mkdir(parents=True)
    (target / "lib").symlink_to("usr/lib")
    copy_own(source, target)
    assert (target / "lib").is_symlink()
    assert (target / "usr/lib/file").is_file()


def test_copy_sparse_keeps_holes_and_shares_blocks(tmp_path: Path) -> None:
    runner = FakeRunner()
    copy_sparse(runner, tmp_path / "-a", tmp_path / "b")
    (words,) = runner.calls
    assert {"--sparse=always", "--reflink=auto"} <= set(words)
    assert words[-3:] == ["--", str(tmp_path / "-a"), str(tmp_path / "b")]


def test_an_interrupt_leaves_no_folder_however_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mkdir = tmp_path / ".out.part", Path.mkdir
    mkdir(folder)
    (folder / "left by a killed run").touch()

    def made(path: Path, mode: int, *, parents: bool) -> None:
        assert not path.exists()
        mkdir(path, mode, parents)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", made)
    with pytest.raises(KeyboardInterrupt), scratch(folder):
        pytest.fail("it went on")
    assert not folder.exists()

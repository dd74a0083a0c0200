"""Digests see what matters for a result, and nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from builder.core.hashing import sha256_file, sha256_tree, sha256_value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc/empty").mkdir(parents=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "link").symlink_to("etc/hosts")
    return root


def test_a_files_digest(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * (3 << 20))
    assert sha256_file(path) == hashlib.sha256(b"x" * (3 << 20)).hexdigest()


def test_values_have_one_form() -> None:
    assert sha256_value({"b": [1, "é"], "a": None}) == sha256_value({"a": None, "b": [1, "é"]})
    assert sha256_value([1, 2]) != sha256_value([2, 1])
    assert sha256_value(["ab", "c"]) != sha256_value(["a", "bc"])


def test_times_do_not_count(folder: Path) -> None:
    before = sha256_tree(folder)
    os.utime(folder / "run", (1, 1))
    os.utime(folder / "etc", (1, 1))
    assert sha256_tree(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_do_not_count(folder: Path) -> None:
    before = sha256_tree(folder)
    os.chown(folder / "run", 1234, 1234)
    assert sha256_tree(folder) == before


def test_neither_do_the_umask_nor_what_python_leaves(folder: Path) -> None:
    before = sha256_tree(folder)
    (folder / "run").chmod(0o600)
    (folder / "etc").chmod(0o700)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").write_text("x")
    assert sha256_tree(folder) == before


def test_every_other_change_counts(folder: Path) -> None:
    seen = [sha256_tree(folder)]

    def changed() -> None:
        seen.append(sha256_tree(folder))

    (folder / "run").chmod(0o755)
    changed()
    (folder / "run").write_text("#!/bin/bash\n")
    changed()
    (folder / "link").unlink()
    (folder / "link").symlink_to("etc/passwd")
    changed()
    (folder / "link").unlink()
    (folder / "link").write_text("etc/passwd")
    changed()
    (folder / "etc/empty").rename(folder / "etc/void")
    changed()
    (folder / "etc/void").rmdir()
    changed()
    (folder / "etc/hosts").rename(folder / "hosts")
    changed()
    assert len(set(seen)) == len(seen)


def test_a_tree_is_not_confused_with_its_listing(tmp_path: Path) -> None:
    """A file name cannot pass for content, nor one file for two."""
    for name, files in {"one": {"ab": "", "c": "x"}, "two": {"a": "", "bc": "x"}}.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert sha256_tree(tmp_path / "one") != sha256_tree(tmp_path / "two")


def test_a_link_to_a_folder_is_not_entered(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(outside)
    before = sha256_tree(tmp_path / "root")
    (outside / "new").write_text("x")
    assert sha256_tree(tmp_path / "root") == before

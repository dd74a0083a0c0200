"""The content of /var becomes tmpfiles.d lines and factory files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.rootfs.vartree import declare_var


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib/tmpfiles.d").mkdir(parents=True)
    (tmp_path / "var/lib/private").mkdir(parents=True)
    return tmp_path


def lines(root: Path) -> dict[str, str]:
    """Declare /var; return each line by the path it names."""
    declare_var(root)
    text = (root / "usr/lib/tmpfiles.d/zz-imgnode-var.conf").read_text()
    assert text.endswith("\n")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    return {row.split('"')[1]: row for row in rows}


def test_folders_keep_mode_and_owner(root: Path) -> None:
    (root / "var/lib/private").chmod(0o2750)
    owner = f"{os.getuid()} {(root / 'var/lib/private').stat().st_gid}"
    told = lines(root)
    assert told["/var/lib/private"] == f'd "/var/lib/private" 2750 {owner} -'
    assert list(told) == ["/var/lib", "/var/lib/private"]


def test_files_are_copied_from_the_factory(root: Path) -> None:
    path = root / "var/lib/private/a key"
    path.write_text("content")
    path.chmod(0o640)
    told = lines(root)["/var/lib/private/a key"]
    assert told.startswith('C "/var/lib/private/a key" 0640 ')
    assert told.endswith(" - /usr/share/factory/var/lib/private/a key")
    factory = root / "usr/share/factory/var/lib/private/a key"
    assert factory.read_text() == "content"
    assert factory.stat().st_mode & 0o777 == 0o640


def test_links_are_declared(root: Path) -> None:
    (root / "var/run").symlink_to("/run")
    (root / "var/lib/private/file").write_text("x")
    (root / "var/lib/alias").symlink_to("private/file")
    (root / "var/lib/dpkg").symlink_to("../../usr/lib/sysimage/dpkg")
    told = lines(root)
    assert told["/var/run"] == 'L "/var/run" - - - - /run'
    assert told["/var/lib/dpkg"] == 'L "/var/lib/dpkg" - - - - ../../usr/lib/sysimage/dpkg'
    assert told["/var/lib/alias"] == 'L "/var/lib/alias" - - - - private/file'
    factory = root / "usr/share/factory/var"
    assert [path.name for path in factory.rglob("*")] == ["lib", "private", "file"]


def test_var_is_left_empty(root: Path) -> None:
    (root / "var/lib/private/file").write_text("x")
    (root / "var/link").symlink_to("lib")
    lines(root)
    assert list((root / "var").iterdir()) == []


def test_what_a_package_declares_itself_is_not_declared_twice(root: Path) -> None:
    (root / "var/log").mkdir()
    (root / "var/spool").mkdir()
    (root / "var/cache").mkdir()
    (root / "usr/lib/tmpfiles.d/var.conf").write_text(
        "# /var/cache is only mentioned\nd /var/log 0755 - - -\nq  /var/spool/ 0755 - - -\n\n"
    )
    assert list(lines(root)) == ["/var/cache", "/var/lib", "/var/lib/private"]


def test_a_line_that_makes_nothing_declares_nothing(root: Path) -> None:
    """`z` sets modes, `x` spares from cleaning, `r` removes: the folder must still be made."""
    (root / "usr/lib/tmpfiles.d/x.conf").write_text(
        "z /var/lib/private 0750 - - -\nx /var/lib/private\nr! /var/lib/private\n"
    )
    assert "/var/lib/private" in lines(root)


def test_parents_come_before_their_children(root: Path) -> None:
    for name in ("z/a", "a/z", "a-b/c"):
        (root / "var/lib" / name).mkdir(parents=True)
    told = list(lines(root))
    for path in told:
        assert (
            Path(path).parent == Path("/var") or str(Path(path).parent) in told[: told.index(path)]
        )

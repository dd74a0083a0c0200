"""Checks on the root that stop a build with a clear word."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.rootfs.base import _check_users
from builder.rootfs.seal import _check_size, kernel_file
from tests.unit.fakes import spec

USERS = """\
# a comment

g input 996
u sshd 978 "sshd" /run/sshd
u admin 1000:1000 "Administrator" /home/admin
"""
PASSWD = "root:x:0:0::/root:/bin/bash\ndaemon:x:1:1:::\nsshd:x:978:978:::\nadmin:x:1000:1000:::\n"
GROUP = "root:x:0:\ninput:x:996:\nsshd:x:978:\nadmin:x:1000:\nusers:x:100:\nnogroup:x:65534:\n"


def check_users(tmp_path: Path, passwd: str = PASSWD, group: str = GROUP) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(passwd)
    (tmp_path / "etc/group").write_text(group)
    (tmp_path / "users.conf").write_text(USERS)
    _check_users(tmp_path, tmp_path / "users.conf")


def test_declared_and_static_users_pass(tmp_path: Path) -> None:
    check_users(tmp_path, PASSWD + "nobody:x:65534:65534:::\nman:x:6:12:::\n")


@pytest.mark.parametrize("file", ["passwd", "group"])
def test_a_user_without_a_fixed_number_stops_the_build(tmp_path: Path, file: str) -> None:
    extra = {"passwd": PASSWD + "redis:x:101:103:::\n", "group": GROUP + "redis:x:103:\n"}
    with pytest.raises(UserError, match=r"a package made redis \(10[13]\)") as caught:
        check_users(tmp_path, **{file: extra[file]})
    assert f"/etc/{file}" in caught.value.what
    assert caught.value.hint is not None
    assert str(tmp_path / "users.conf") in caught.value.hint


def test_a_name_in_a_comment_declares_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a package made a "):
        check_users(tmp_path, PASSWD + "a:x:101:101:::\n")


def test_a_root_that_fits() -> None:
    _check_size(1 << 30, spec())


def test_a_root_that_does_not_fit_says_by_how_much_and_where_to_mend_it() -> None:
    with pytest.raises(UserError) as caught:
        _check_size((1 << 30) + 1, spec())
    assert str(caught.value) == (
        "the root image has 1025 MiB, the slot only 1024 MiB "
        "(config/profiles/cpu.yaml: disk.root) (hint: set disk.root to at least 1025MiB, "
        "better twice that: slots cannot grow on installed nodes)"
    )


def test_exactly_one_kernel(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/System.map-6.1").touch()
    with pytest.raises(UserError, match="has 0 kernels: none") as caught:
        kernel_file(tmp_path)
    assert caught.value.hint is not None
    (tmp_path / "boot/vmlinuz-6.1").touch()
    assert kernel_file(tmp_path).name == "vmlinuz-6.1"
    (tmp_path / "boot/vmlinuz-6.12").touch()
    with pytest.raises(UserError, match=r"has 2 kernels: vmlinuz-6\.1, vmlinuz-6\.12"):
        kernel_file(tmp_path)

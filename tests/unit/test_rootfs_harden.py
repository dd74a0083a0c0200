"""What a root must not hold, and whose rights are taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.rootfs import harden
from builder.rootfs.harden import check_forbidden, settle_rights
from builder.rootfs.rules import check_rules
from tests.unit.driver_parts import installed
from tests.unit.fakes import FakeRunner, context

CONF = """\
# keep /usr/bin/commented
keep /usr/bin/sudo    # the way to root
keep /usr/bin/ping
drop /usr/bin/su
drop /usr/bin/not-there
"""


def root_with(tmp_path: Path, **modes: int) -> Path:
    folder = tmp_path / "root/usr/bin"
    folder.mkdir(parents=True)
    for name, mode in modes.items():
        (folder / name).write_text("#!")
        (folder / name).chmod(mode)
    (tmp_path / "setuid.conf").write_text(CONF)
    return tmp_path / "root"


def mode(root: Path, name: str) -> int:
    return (root / "usr/bin" / name).stat().st_mode & 0o7777


def test_rights_are_kept_or_taken_as_the_list_says(tmp_path: Path) -> None:
    root = root_with(tmp_path, sudo=0o4755, su=0o6755, cat=0o755)
    (root / "usr/share").mkdir(mode=0o2755)
    (root / "usr/bin/link").symlink_to("su")
    settle_rights(root, tmp_path / "setuid.conf")
    assert (mode(root, "sudo"), mode(root, "su"), mode(root, "cat")) == (0o4755, 0o755, 0o755)


@pytest.mark.parametrize("bits", [0o4755, 0o2755])
def test_a_program_with_rights_that_nobody_knows_stops_the_build(tmp_path: Path, bits: int) -> None:
    root = root_with(tmp_path, pkexec=bits)
    with pytest.raises(UserError, match="/usr/bin/pkexec") as caught:
        settle_rights(root, tmp_path / "setuid.conf")
    assert caught.value.hint is not None
    assert str(tmp_path / "setuid.conf") in caught.value.hint
    assert mode(root, "pkexec") == bits


def test_capabilities_of_files_are_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting one needs root: what the kernel says of it is played."""
    root = root_with(tmp_path, ping=0o755, su=0o755)
    taken: list[str] = []
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: [harden._CAPABILITIES])
    monkeypatch.setattr(os, "removexattr", lambda path, _: taken.append(path.name))
    settle_rights(root, tmp_path / "setuid.conf")
    assert taken == ["su"]


def test_a_line_that_says_nothing_is_refused(tmp_path: Path) -> None:
    root = root_with(tmp_path)
    for line in ("allow /usr/bin/x", "keep usr/bin/x", "keep", "drop /a /b"):
        (tmp_path / "setuid.conf").write_text(f"# one\n{line}\n")
        with pytest.raises(UserError, match=r"setuid\.conf:2"):
            settle_rights(root, tmp_path / "setuid.conf")


@pytest.mark.parametrize(
    "path",
    [
        "usr/bin/x86_64-linux-gnu-gcc-12",
        "usr/bin/apt-get",
        "usr/bin/cc",
        "usr/bin/make",
        "usr/bin/pip3",
        "usr/bin/Xorg",
        "usr/lib/gcc/x86_64-linux-gnu/12/cc1",
        "usr/lib/modules/6.1.0/build",
        "usr/lib/xorg/modules/drivers/nvidia_drv.so",
        "usr/lib/x86_64-linux-gnu/libX11.so.6",
        "usr/sbin/dkms",
        "usr/src/linux-headers-6.1.0/Makefile",
    ],
)
def test_what_builds_or_installs_has_no_place(tmp_path: Path, path: str) -> None:
    root = installed(tmp_path)
    check_forbidden(root)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("")
    with pytest.raises(UserError, match="no node needs") as caught:
        check_forbidden(root)
    assert path.split("/")[2] in caught.value.what
    assert caught.value.hint is not None


def test_rules_are_read_by_the_roots_own_programs(tmp_path: Path) -> None:
    (tmp_path / "etc/apparmor.d").mkdir(parents=True)
    (tmp_path / "etc/nftables.conf").touch()
    (tmp_path / "etc/apparmor.d/imgnode-vllm").touch()
    runner = FakeRunner(lambda _: "")
    check_rules(context(tmp_path, runner), tmp_path)
    words = [call[:4] for call in runner.calls]
    assert words == [["unshare", "--net", "chroot", str(tmp_path)]] * 2
    assert runner.calls[0][4:] == ["/usr/sbin/nft", "-c", "-f", "/etc/nftables.conf"]
    assert runner.calls[1][-1] == "/etc/apparmor.d/imgnode-vllm"


def test_rules_that_are_not_accepted_stop_the_build(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nftables.conf").touch()

    def refuse(words: list[str]) -> str:
        raise CommandError(words[0], "exit status 1", "nftables.conf:3: syntax error")

    with pytest.raises(UserError, match=r"(?s)/etc/nftables\.conf.*syntax error") as caught:
        check_rules(context(tmp_path, FakeRunner(refuse)), tmp_path)
    assert caught.value.hint is not None

"""What is told of two root file systems: from a tree on disk to what differs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.compare.contents import compare_contents
from builder.compare.kernel import parse_options
from builder.inspect.inventory import take_inventory
from builder.model.difference import Change, Contents

NFT = """table inet imgnode {
  chain input {
    type filter hook input priority filter; policy drop
    udp sport 67 udp dport 68 accept
    ip saddr 10.0.0.0/8 tcp dport 22 accept
    ip6 saddr ::/0 tcp dport 22 accept
  }
  chain forward {
    tcp dport 99 accept
  }
}
"""
OWN = f"{os.getuid()}:{os.getgid()}"
UNITS = "usr/lib/systemd/system"


def lay(root: Path, name: str, text: str = "x") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tree(root: Path) -> Path:
    """Lay a small root file system."""
    lay(root, "etc/passwd", "root:*:0:0:root:/root:/bin/bash\nop:*:1000:1000::/home/op:/bin/sh\n")
    lay(root, "etc/group", "root:x:0:\nop:x:1000:\nsudo:x:27:op\n")
    lay(root, "etc/nftables.conf", NFT)
    lay(root, "usr/bin/tool", "12345").chmod(0o755)
    lay(root, "usr/lib/sysimage/dpkg/info/tools:amd64.list", "/.\n/bin\n/bin/tool\n")
    lay(root, f"{UNITS}/a.service", "[Service]\n\n[Install]\nWantedBy=x.target\n")
    lay(root, f"{UNITS}/b.socket", "[Socket]\nListenStream=127.0.0.1:80\n")
    lay(root, f"{UNITS}/c@.socket", "[Socket]\nListenStream=81\n")
    (root / f"{UNITS}/d.service").symlink_to("/dev/null")
    return root


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tree(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tree(tmp_path / "new")


def compared(old: Path, new: Path) -> Contents:
    return compare_contents(take_inventory(old), take_inventory(new))


def test_an_inventory(old: Path) -> None:
    found = take_inventory(old)
    assert found.files["usr/bin/tool"].package == "tools"
    assert found.files["usr/bin/tool"].bytes == found.bytes_by_package()["tools"] == 5
    assert {name: unit.state for name, unit in found.units.items()} == {
        "a.service": "disabled",
        "b.socket": "static",
        "c@.socket": "static",
        "d.service": "masked",
    }
    assert [(one.protocol, one.port, one.by, one.sources) for one in found.ports] == [
        ("tcp", "127.0.0.1:80", "b.socket", ()),
        ("tcp", "22", "firewall", ("10.0.0.0/8", "::/0")),
        ("udp", "68", "firewall", ("any",)),
    ]
    assert found.users["op"].groups == ("sudo",)
    assert found.groups["sudo"] == 27


def test_equal_trees_do_not_differ(old: Path, new: Path) -> None:
    found = compared(old, new)
    assert found == Contents(
        files=(), files_same=found.files_same, sizes=(), units=(), ports=(), users=(), groups=(),
        privileged=(),
    )  # fmt: skip
    assert found.files_same > 10


def test_files_and_sizes(old: Path, new: Path) -> None:
    lay(new, "usr/bin/tool", "54321")
    lay(new, "etc/more", "abc")
    (old / "etc/gone").symlink_to("nowhere")
    found = compared(old, new)
    assert [(one.path, one.old, one.new, one.bytes, one.package) for one in found.files] == [
        ("etc/gone", "link to nowhere", None, 0, None),
        ("etc/more", None, f"file 0644 {OWN} 3 bytes", 3, None),
        (
            "usr/bin/tool",
            f"file 0755 {OWN} 5 bytes",
            f"file 0755 {OWN} 5 bytes, other content",
            0,
            "tools",
        ),
    ]
    assert [(one.package, one.new - one.old) for one in found.sizes] == [("", 3)]


def test_a_file_that_gains_rights(old: Path, new: Path) -> None:
    (new / "usr/bin/tool").chmod(0o4755)
    found = compared(old, new)
    assert found.privileged == (Change(name="usr/bin/tool", old=f"0755 {OWN}", new=f"4755 {OWN}"),)


def test_units_users_and_ports(old: Path, new: Path) -> None:
    (new / "etc/systemd/system/x.target.wants").mkdir(parents=True)
    (new / "etc/systemd/system/x.target.wants/a.service").symlink_to("/lib/a.service")
    lay(new, f"{UNITS}/b.socket.d/more.conf", "[Socket]\nListenStream=82\n")
    lay(new, "etc/nftables.conf", NFT.replace("dport 22", "dport 2222"))
    lay(new, "etc/passwd", "root:*:0:0:root:/root:/bin/bash\n")
    found = compared(old, new)
    assert found.units == (
        Change(name="a.service", old="disabled", new="enabled"),
        Change(name="b.socket", old="static", new="static, other content"),
    )
    assert [(one.name, one.old, one.new) for one in found.ports] == [
        ("tcp 22 (firewall)", "open for 10.0.0.0/8, ::/0", None),
        ("tcp 2222 (firewall)", None, "open for 10.0.0.0/8, ::/0"),
    ]
    assert found.users == (Change(name="op", old="1000:1000 /home/op /bin/sh, in sudo", new=None),)


def test_options_of_a_kernel() -> None:
    text = '# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x=y"\n'
    assert parse_options(text) == {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": '"x=y"'}

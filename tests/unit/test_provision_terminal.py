"""How installations look in the terminal, and the commands around the server."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from builder.cli.provision import has_secrets, place_of
from builder.cli.rollout import Rollout, drawn
from builder.core.errors import UserError
from builder.core.process import Runner
from builder.serve import net, view
from builder.serve.children import Child, end_leftover
from builder.serve.progress import parse_report
from builder.serve.run import need_files, owned
from tests.unit.provision_desk import MAC, plan, room, who
from tests.unit.test_provision_config import place


def test_lines_tell_each_change_once(tmp_path: Path) -> None:
    made, said = room(tmp_path), list[str]()
    with Rollout(made.desk, said.append, None) as shown:
        shown.show()
        order = made.ask(who("S7", "", MAC))
        shown.show()
        shown.show()
        made.refused(who("X"))
        body = {"schema_version": 1, "phase": "root.erofs", "done": 1, "total": 4}
        report = parse_report(json.dumps(body).encode())
        assert report
        made.desk.report("gpu-07", str(order["report"]).rpartition("/")[2], report)
        shown.show()
        shown.tell("a note")
    assert said == [
        "gpu-07: ordered",
        "X: waiting (is not in the inventory)",
        "gpu-07: installing root.erofs",
        "a note",
    ]


def test_the_table_shows_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    made = room(tmp_path, {f"n{number:02}": {"serial": f"S{number}"} for number in range(30)})
    made.ask(who("S17"))
    console = Console(file=io.StringIO(), width=120, height=20, force_terminal=True)
    with Rollout(made.desk, print, console) as shown:
        shown.tell("a note")
        shown.show()
    text = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert "29 expected" in text
    assert "n17" in text
    assert "… and 17 more" in text
    assert "a note" in text


def test_a_table_of_what_machines_say_is_no_markup(tmp_path: Path) -> None:
    made = room(tmp_path)
    made.refused(who("[red]X[/red]"))
    console = Console(file=io.StringIO(), width=200)
    console.print(drawn(view.rows(made.desk), 20))
    assert isinstance(console.file, io.StringIO)
    assert "-red-X--red-" in console.file.getvalue()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("#cloud-config\nhostname: a\nssh_authorized_keys:\n- ssh-ed25519 AAAA me\n", False),
        ("#cloud-config\ninference:\n  model: a/b\n  max_model_len: 8192\n", False),
        ("#cloud-config\nwrite_files:\n- content: HF_TOKEN=abcdef123456\n", True),
        ("users:\n- passwd: $6$salt$0123456789abcdef\n", True),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n", True),
    ],
)
def test_secrets_in_seeds_are_seen(text: str, secret: bool) -> None:
    assert has_secrets({"user-data": text}) is secret


def _net(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    made = [ipaddress.IPv4Interface(one) for one in found]
    monkeypatch.setattr(net, "addresses", lambda *_: made)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_the_address_is_the_interfaces_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _net(monkeypatch, "10.9.0.1/24", "192.0.2.1/25")
    runner = Runner()
    found = place_of(runner, plan(), tmp_path / "state", tmp_path)
    assert (found.address, str(found.network)) == ("10.9.0.1", "10.9.0.0/24")
    assert found.installer == tmp_path / "installer.efi"
    assert found.user == "www-data"
    second = place_of(runner, plan(address="192.0.2.1"), tmp_path, tmp_path)
    assert str(second.network) == "192.0.2.0/25"
    assert place_of(runner, plan(dhcp="off"), tmp_path, tmp_path).network is None


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"address": "10.9.0.7"}, "eth1: has no address 10.9.0.7"),
        ({"releases": "."}, "server.releases: .* holds .*seeds and tokens would be handed out"),
        ({"releases": ".."}, "seeds and tokens would be handed out"),
        ({"dhcp": "full", "range": "10.9.0.9-10.9.1.9"}, "10.9.1.9 is not in 10.9.0.0/24"),
    ],
)
def test_a_network_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: dict[str, Any], said: str
) -> None:
    _net(monkeypatch, "10.9.0.1/24")
    with pytest.raises(UserError, match=said):
        place_of(Runner(), plan(**server), tmp_path, tmp_path)


def test_dhcp_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _net(monkeypatch, "10.9.0.1/24")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="DHCP needs root"):
        place_of(Runner(), plan(), tmp_path, tmp_path)
    assert place_of(Runner(), plan(dhcp="off"), tmp_path, tmp_path).user is None


def test_what_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    made = place(tmp_path, releases=tmp_path / "releases")
    with pytest.raises(UserError, match=r"/srv/installer.efi: there is no such file"):
        need_files(made)


def test_one_server_for_each_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    second = pytest.raises(UserError, match="another server works with it")
    with owned(tmp_path), second, owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


@pytest.mark.allow_commands("sleep")
def test_only_what_a_killed_run_left_is_ended(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    config, pid = tmp_path / "nginx.conf", tmp_path / "nginx.pid"
    child = Child("nginx", ("nginx", "-c", config), pid, tmp_path / "log")
    try:
        assert not end_leftover(child)
        pid.write_text(str(other.pid))
        assert not end_leftover(child)
        assert other.poll() is None
        pid.write_text("rubbish")
        assert not end_leftover(child)
        pid.write_text(str(other.pid))
        threading.Thread(target=other.wait).start()  # as init does, for a killed server's children
        began = time.monotonic()
        assert end_leftover(Child("sleep", ("sleep", "60"), pid, tmp_path / "log"))
        assert time.monotonic() - began < 4
    finally:
        other.kill()
        other.wait()

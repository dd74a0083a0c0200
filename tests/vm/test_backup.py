"""Backups of a real node, to a server on the host; then its disk is lost, and it comes back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.disk import DEFAULT_SIZE, prepare_disk, write_seed
from builder.vm.qemu import Accel, HostService
from builder.vm.seed import seed_files
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.command import Place, copy_project
from tests.restserver import RestServer
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, Image, keep_if_failed, wait_settled

pytestmark = [pytest.mark.vm, pytest.mark.long]

PROFILE = """\
extends: bare
description: the operating system alone, with backups
packages:
  roles: [base, boot, seed, ssh, backup]
overlays: [base, boot, seed, ssh, backup]
"""
KEY, LOGIN = "a-key-that-nobody-sees", "a-login-that-nobody-sees"
NODE_SEED = f"""#cloud-config
hostname: gpu-07
backup:
  remote: rest:http://10.0.2.100/nodes
  key: {{secret: backup-key}}
  user: gpu
  password: {{secret: backup-login}}
  restore: latest
write_files:
  - {{path: /etc/credstore/imgnode.backup-key, permissions: "0600", content: {KEY}}}
  - {{path: /etc/credstore/imgnode.backup-login, permissions: "0600", content: {LOGIN}}}
"""
COMMAND_S = 300.0
IDENTITY = "sudo cat /etc/ssh/ssh_host_ed25519_key.pub /var/lib/imgnode/etc/machine-id"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build profile bare with backups."""
    place = Place(tmp_path_factory.mktemp("keeper"))
    copy_project(ROOT, place.project, link=True)
    place.write("config/profiles/keeper.yaml", PROFILE)
    place.build("keeper", env={"IMGBUILD_CACHE": str(FOLDER.parent)}).done()
    yield Image(place.out)
    remove_tree(place.top)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    with RestServer(tmp_path_factory.mktemp("server"), f"gpu:{LOGIN}") as started:
        yield started


@pytest.fixture(scope="module")
def up(
    request: pytest.FixtureRequest, runner: Runner, image: Image, accel: Accel, server: RestServer
) -> Iterator[VmNode]:
    services = (HostService("10.0.2.100", 80, server.port),)
    with start_node(
        runner, image.disk, NODE_SEED, FOLDER, accel=accel, size=VmSize(), services=services
    ) as started:
        started.machine.wait_for("login:", BOOT_S)
        wait_settled(started)
        yield started
        keep_if_failed(request, started)


def say(node: VmNode, command: str) -> str:
    done = node.ssh.run(command, COMMAND_S)
    assert done.rc == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def state(node: VmNode) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(say(node, "cat /var/lib/imgnode/backup/state.json"))
    return found


def test_a_new_node_backs_itself_up_and_tries_what_it_kept(up: VmNode, server: RestServer) -> None:
    told = say(up, "cat /var/lib/imgnode/backup/settled.json")
    assert "nothing was brought back: remote: " in told  # a new node: there is nothing yet
    say(up, "sudo imgnode model set --no-wait max_model_len=2048")
    say(up, "sudo systemctl start imgnode-backup.service")
    say(up, "sudo systemctl start imgnode-backup-verify.service")
    assert state(up)["errors"] == {}
    assert set(state(up)["success"]) == {"local", "remote"}
    listed = say(up, "sudo imgnode backup list").splitlines()
    assert [line.split()[4] for line in listed] == ["local", "remote"]
    assert "; verified 20" in say(up, "imgnode status")
    told = say(up, "cat /run/imgnode/metrics/backup.prom")
    assert 'imgnode_backup_last_success_timestamp_seconds{target="remote"}' in told
    assert (server.folder / "nodes/gpu-07/config").is_file()
    assert say(up, "systemctl --failed --no-legend --plain") == ""


def test_nobody_sees_the_secrets(up: VmNode) -> None:
    for place in ("sudo journalctl -b --no-pager", "cat /run/imgnode/node.json"):
        told = say(up, place)
        assert KEY not in told
        assert LOGIN not in told
    assert up.ssh.run("imgnode backup list").rc == 2  # a person without sudo
    assert up.ssh.run("ls /var/lib/imgnode/backup/repo").rc != 0


def test_its_services_are_closed(up: VmNode) -> None:
    for unit in ("imgnode-backup", "imgnode-backup-verify", "imgnode-restore"):
        say(up, f"systemd-analyze security --threshold=25 --no-pager {unit}.service")


def test_a_remote_that_is_gone_is_told_and_tried_again(up: VmNode, server: RestServer) -> None:
    server.down()
    say(up, "sudo rm /var/lib/imgnode/backup/state.json")
    assert up.ssh.run("sudo systemctl start imgnode-backup.service", COMMAND_S).rc != 0
    assert set(state(up)["success"]) == {"local"}
    assert 'imgnode_backup_error{kind="reach"} 1' in say(up, "cat /run/imgnode/metrics/backup.prom")
    assert "backup   FAILED (remote, reach): " in say(up, "imgnode status")
    assert "reach" in say(up, "sudo journalctl -b -p err -u imgnode-backup -o cat")
    assert say(up, "systemctl --failed --no-legend --plain") == ""
    shown = say(up, "systemctl show imgnode-backup.service -P ActiveState -P SubState").split()
    assert shown == ["activating", "auto-restart"]
    server.up()
    # A start would wait for the next try, which comes by itself after five minutes.
    say(up, "sudo systemctl restart imgnode-backup.service")
    assert set(state(up)["success"]) == {"local", "remote"}
    assert state(up)["errors"] == {}


def test_sftp_by_the_real_ssh(up: VmNode) -> None:
    """The node is its own server here: sshd and sftp-server are those of the image."""
    say(up, "ssh-keygen -q -t ed25519 -N '' -f far; sudo tee -a .ssh/authorized_keys <far.pub")
    say(up, "sudo install -D -m 600 far /etc/credstore/imgnode.ssh")
    host_key = say(up, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
    config = json.loads(say(up, "cat /run/imgnode/node.json"))
    config["backup"] = {
        "remote": "sftp://admin@127.0.0.1//var/home/admin/there",
        "key": {"secret": "backup-key"},
        "ssh_key": {"secret": "ssh"},
        "host_key": host_key,
    }
    text = shlex.quote(json.dumps(config))
    say(up, f"echo {text} | sudo tee /run/imgnode/node.json")
    say(up, "sudo imgnode backup now")
    assert "remote: " in say(up, "sudo imgnode backup verify")
    say(up, "ls there/gpu-07/config && sudo systemctl restart imgnode-seed.service")


def test_a_lost_disk_costs_nothing(up: VmNode, runner: Runner, image: Image) -> None:
    """Another disk, flashed anew, with the same seed: it is the old node again."""
    say(up, "sudo imgnode backup now")
    identity, history = say(up, IDENTITY), json.loads(say(up, "imgnode gate show --json"))
    up.machine.poweroff(BOOT_S)
    up.disk.unlink()
    prepare_disk(runner, image.disk, up.disk, DEFAULT_SIZE)
    write_seed(runner, up.disk, seed_files(NODE_SEED, up.key))
    since = up.machine.start()
    # SSH refuses the key that the node had for the first seconds of its new life.
    up.machine.wait_for("ssh.service has its old keys", BOOT_S, since=since)
    up.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(up)
    assert say(up, IDENTITY) == identity
    assert "max_model_len: 2048" in say(up, "imgnode model show")
    now = json.loads(say(up, "imgnode gate show --json"))["history"]
    assert now[:-1] == history["history"]
    assert "brought back: model, etc, gate" in say(up, "cat /var/lib/imgnode/backup/settled.json")
    listed = [line.split()[4] for line in say(up, "sudo imgnode backup list").splitlines()[1:]]
    assert listed.count("remote") >= 1
    assert say(up, "systemctl --failed --no-legend --plain") == ""
    since = up.machine.serial.position()
    up.ssh.run("sudo systemctl reboot", BOOT_S)
    up.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(up)
    assert say(up, "cat /etc/machine-id") == identity.split()[-1]

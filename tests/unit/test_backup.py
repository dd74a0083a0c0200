"""Backups with the real restic: taken, tried, brought back, and what goes wrong on the way."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from imgnode import process
from imgnode.backup import restic, targets
from imgnode.backup.stage import compare, staged
from imgnode.backup.trouble import Trouble, WrongCall
from imgnode.process import Finished
from tests.restserver import RestServer
from tests.unit.backup_node import KEY, LOGIN, Node, play, remote

pytestmark = pytest.mark.allow_commands("restic")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one backup for all: restic takes seconds to make a repository's key slow to guess."""
    with pytest.MonkeyPatch.context() as patch:
        node = play(tmp_path_factory.mktemp("made") / "node", patch)
        assert node.back_up() == []
        return node.path("backup")


@pytest.fixture
def node(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Give a node whose state was backed up a moment ago."""
    node = play(tmp_path / "node", monkeypatch)
    shutil.copytree(made, node.path("backup"))
    return node


@pytest.fixture
def server(tmp_path: Path) -> RestServer:
    return RestServer(tmp_path / "server", f"gpu:{LOGIN}")


def kinds(found: list[Trouble]) -> list[str]:
    return [one.kind for one in found]


def test_what_is_declared_comes_back_as_it_was(node: Node) -> None:
    assert node.verify() == []
    node.write("model/proven.json", "{}")
    node.path("seed/good").unlink()
    node.path("gate/history.json").unlink()
    node.path("gate").rmdir()
    assert node.restore() == ["seed", "model", "gate"]
    assert node.path("seed/good").readlink() == Path("0123")
    assert "a/b" in node.read("model/proven.json")
    assert node.read("gate/history.json") == "[]"
    mode = node.path("etc/ssh/ssh_host_ed25519_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    kept = next(node.path("backup/replaced").iterdir())
    assert (kept / "model/proven.json").read_text() == "{}"
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert not list(node.path("backup").glob("s[tc]*/"))  # neither stage nor scratch is left


def test_only_what_is_declared_is_copied(node: Node) -> None:
    node.write("models/a/weights", "not state")
    node.write("model/.half.json.new", "half")
    with staged(node.root) as folder:
        names = {path.name for path in (folder / "files").iterdir()}
        assert names == {"seed", "model", "etc", "gate", "update"}
        assert compare(folder).keys() >= {"model/proven.json", "update"}
        assert "model/.half.json.new" not in compare(folder)
    assert not folder.exists()


def test_what_the_node_has_seen_since_is_not_undone(node: Node) -> None:
    """Serials that went backwards would let an old channel file in (imgnode/update)."""
    node.write("update/state.json", '{"serials": {"stable": 9}}')
    assert node.restore() == []
    assert '"stable": 9' in node.read("update/state.json")


def test_config_alone_leaves_the_identity(node: Node) -> None:
    node.write("model/proven.json", "{}")
    node.write("etc/machine-id", "f" * 32)
    assert node.restore(config_only=True) == ["model"]
    assert node.read("etc/machine-id") == "f" * 32


def test_another_backup_than_the_latest(node: Node) -> None:
    repository = targets.open_target("local", targets.settings(node.root), node.root)
    first = restic.snapshots(repository)[0].name
    node.write("model/proven.json", "{}")
    node.back_up()
    assert node.restore(name=first) == ["model"]
    with pytest.raises(Trouble, match="has no backup 00000000"):
        node.restore(name="00000000")
    with pytest.raises(WrongCall, match="the seed names no remote"):
        node.restore(target="remote")


def test_the_timers_run_leaves_fresh_ones_alone(node: Node) -> None:
    assert node.back_up(due_only=True) == []
    assert node.said == ["nothing is due: the last backup is younger than six hours"]


def test_retention_keeps_the_newest_and_the_last_days(node: Node) -> None:
    node.seed(keep={"count": 1, "days": 3})
    node.back_up()
    words = next(argv for argv in node.ran if "forget" in argv)
    assert words[-4:] == ["--keep-last", "1", "--keep-within", "3d"]
    repository = targets.open_target("local", targets.settings(node.root), node.root)
    assert len(restic.snapshots(repository)) == 2  # both of today
    old = ["backup", "--time", "2001-01-01 00:00:00", "--", str(node.path("gate"))]
    restic._run(repository, *old, timeout_s=60)
    restic.forget(repository, count=1, days=3)
    assert len(restic.snapshots(repository)) == 2


def test_a_damaged_repository_is_found(node: Node) -> None:
    pack = _packs(node)[0]
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[10] ^= 1
    pack.write_bytes(data)
    assert kinds(node.verify()) == ["damaged"]
    assert 'imgnode_backup_error{kind="damaged"} 1' in node.metrics()
    assert "imgnode_backup_last_verify" in node.metrics()
    assert node.remembered()["verified"] is None


def _packs(node: Node) -> list[Path]:
    return [path for path in node.path("backup/repo/data").rglob("*") if path.is_file()]


def test_a_file_that_is_not_what_was_copied_is_found(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a")
    with pytest.raises(Trouble, match="list cannot be read"):
        compare(tmp_path)
    (tmp_path / "sha256.json").write_text('{"a": "0", "b": "1"}')
    with pytest.raises(Trouble, match="2 files differ from the list, as a"):
        compare(tmp_path)


def test_a_full_disk_is_told_and_nothing_is_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(node.root)
    full = os.statvfs_result((*real[:3], 10, 10, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert kinds(node.back_up()) == ["space"]
    assert node.ran == []
    assert 'imgnode_backup_error{kind="space"} 1' in node.metrics()


def test_a_volatile_var_is_not_backed_up(node: Node) -> None:
    (node.root / "run/imgnode/var-degraded").write_text("no partition")
    assert kinds(node.back_up()) == ["volatile"]


def test_the_remote_has_its_own_key_and_folder(node: Node, server: RestServer) -> None:
    with server:
        node.seed(**remote(server.port))
        assert node.back_up() == []
        assert (server.folder / "nodes/gpu-07/config").is_file()
        assert node.verify() == []
        node.write("model/proven.json", "{}")
        shutil.rmtree(node.path("backup/repo"))
        assert node.restore() == ["model"]  # where the local one is gone
        (node.root / "etc/credstore/imgnode.backup-key").write_text("another\n")
        assert kinds(node.back_up()) == ["key"]
    told = node.metrics()
    assert 'imgnode_backup_last_success_timestamp_seconds{target="remote"}' in told
    assert 'imgnode_backup_error{kind="key"} 1' in told


def test_no_secret_is_in_a_command_or_a_message(node: Node, server: RestServer) -> None:
    with server:
        node.seed(**remote(server.port))
        node.back_up()
        server.login = "gpu:another"
        found = node.back_up()
    assert kinds(found) == ["reach"]
    words = " ".join(word for argv in node.ran for word in argv)
    told = " ".join([*node.said, *map(str, found), node.read("backup/state.json"), words])
    for secret in (KEY, LOGIN, "pass%2Fword%401", node.read("backup/key").strip()):
        assert secret not in told
    for path in (node.root / "run/imgnode/backup").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(node.path("backup/key").stat().st_mode) == 0o600


def test_a_remote_that_is_gone_does_not_cost_the_local_one(
    node: Node, server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise Trouble("reach", "remote: does not answer")

    with server:
        node.seed(**remote(server.port))
    node.path("backup/state.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(targets, "reach", gone)
        assert kinds(node.back_up(due_only=True)) == ["reach"]
    assert list(node.remembered()["success"]) == ["local"]
    assert 'imgnode_backup_error{kind="reach"} 1' in node.metrics()
    node.ran.clear()
    with server:
        node.seed(**remote(server.port))
        assert node.back_up(due_only=True) == []
    assert all("--repository-file" in argv for argv in node.ran)  # the retry makes what is missing
    assert 'imgnode_backup_error{kind="reach"} 0' in node.metrics()


def test_a_secret_that_is_not_there_is_told(node: Node) -> None:
    (node.root / "etc/credstore/imgnode.backup-key").unlink()
    node.seed(**remote(1))
    found = node.back_up()
    assert kinds(found) == ["secret"]
    assert "backup.key: the secret 'backup-key' is not on this node" in str(found[0])
    assert "imgnode.backup-key" in str(found[0])


def test_sftp_goes_through_ssh_with_the_seeds_keys(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh is played by sftp-server itself: what it would be told is in its configuration."""
    fake = tmp_path / "bin/ssh"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/argv\nexec /usr/lib/openssh/sftp-server\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    (node.root / "etc/credstore/imgnode.ssh").write_text("-----BEGIN\nkey\n-----END\n")
    node.seed(
        remote=f"sftp://me@10.9.8.7:2222/{tmp_path}/far",
        key={"secret": "backup-key"},
        ssh_key={"secret": "ssh"},
        host_key="ssh-ed25519 AAAA",
        node="gpu-07",
    )
    assert node.back_up() == []
    assert (tmp_path / "far/gpu-07/config").is_file()
    handed = node.root / "run/imgnode/backup"
    assert (tmp_path / "argv").read_text() == f"-F {handed}/ssh_config backup -s sftp\n"
    text = (handed / "ssh_config").read_text()
    for line in ("HostName 10.9.8.7", "Port 2222", "User me", "StrictHostKeyChecking yes"):
        assert f"    {line}\n" in text
    assert (handed / "known_hosts").read_text() == "backup ssh-ed25519 AAAA\n"
    assert (handed / "ssh_key").read_text() == "-----BEGIN\nkey\n-----END\n"


def test_s3_gets_its_login_by_the_environment(node: Node) -> None:
    node.seed(**remote(1, remote="s3:https://s3.example/bucket"))
    repository = targets.open_target("remote", targets.settings(node.root), node.root)
    assert repository.env == {"AWS_ACCESS_KEY_ID": "gpu", "AWS_SECRET_ACCESS_KEY": LOGIN}
    address = (node.root / "run/imgnode/backup/repository").read_text()
    assert address == "s3:https://s3.example/bucket/gpu-07\n"
    assert LOGIN not in repr(repository)


def test_a_lock_that_a_power_cut_left_is_taken_away(node: Node) -> None:
    repository = targets.open_target("local", targets.settings(node.root), node.root)
    before = len(restic.snapshots(repository))
    genuine, tried = restic._once, []

    def once(where: restic.Repository, *words: str, timeout_s: float) -> str:
        tried.append(words[0])
        if words[0] == "forget" and tried.count("forget") == 1:
            raise Trouble("busy", "already locked")
        return genuine(where, *words, timeout_s=timeout_s)

    restic._once = once  # type: ignore[assignment]
    try:
        assert node.back_up() == []
    finally:
        restic._once = genuine
    assert tried == ["backup", "forget", "unlock", "forget"]
    assert len(restic.snapshots(repository)) == before + 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Fatal: wrong password or no key found", "key"),
        ("Fatal: unable to open config file: <config/> does not exist\nIs there a …", "missing"),
        ("Fatal: unable to open config file: <config/> does not exist at :34031/", "missing"),
        ("Fatal: unable to open config file: unexpected HTTP response (401): 401 U…", "reach"),
        ("Fatal: unable to open config file: Lstat: file does not exist\nIs there …", "missing"),
        ("Fatal: unable to open config file: Head: dial tcp: connection refused", "reach"),
        ("write: no space left on device\nFatal: failed", "space"),
        ("Fatal: repository contains errors", "damaged"),
        ("unable to create lock in backend: repository is already locked", "busy"),
        ("", "restic"),
    ],
)
def test_what_restic_says_has_a_kind_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, words: str, kind: str
) -> None:
    monkeypatch.setattr(process, "run", lambda *_, **__: Finished(1, "", f"{words} hunter2\n"))
    where = restic.Repository("remote", (), redacted=("", "hunter2"))
    assert "hunter2" not in repr(where)
    with pytest.raises(Trouble) as trouble:
        restic.snapshots(where)
    assert trouble.value.kind == kind
    assert "hunter2" not in str(trouble.value)


def test_a_restic_that_hangs_is_a_remote_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", lambda *_, **__: Finished(124, "", "no end after 300 s"))
    with pytest.raises(Trouble, match="no end after 300 s"):
        restic.snapshots(restic.Repository("remote", ()))

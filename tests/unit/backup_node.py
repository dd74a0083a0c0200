"""A node as a folder, for the tests of backups. restic is the real one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imgnode import process
from imgnode.backup import restore, targets
from imgnode.backup.firstboot import at_boot
from imgnode.backup.restore import Wish
from imgnode.backup.take import back_up
from imgnode.backup.trouble import Trouble
from imgnode.backup.verify import verify
from imgnode.nodeconfig import NodeConfig, write_node

ROOT = Path(__file__).parents[2]
KEY, LOGIN = "a-key-of-the-remote", "pass/word@1"
STATE = {
    "seed/0123/user-data": "#cloud-config\nhostname: gpu-07\n",
    "model/proven.json": '{"settings": {"model": "a/b"}}',
    "gate/history.json": "[]",
    "update/state.json": '{"serials": {"stable": 7}}',
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/ssh/ssh_host_ed25519_key": "the old key\n",
}


@dataclass
class Node:
    """A node's root; what it says is in `said`, what it started in `ran`."""

    root: Path
    said: list[str] = field(default_factory=list)
    ran: list[list[str]] = field(default_factory=list)
    envs: list[Mapping[str, str]] = field(default_factory=list)

    def path(self, name: str) -> Path:
        return self.root / "var/lib/imgnode" / name

    def write(self, name: str, text: str) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def read(self, name: str) -> str:
        return self.path(name).read_text()

    def live(self, **changes: str) -> None:
        """Give it a state of its own, as a node has that has served for a while."""
        for name, text in {**STATE, **changes}.items():
            self.write(name, text)
        link = self.path("seed/good")
        link.unlink(missing_ok=True)
        link.symlink_to("0123")
        self.path("etc/ssh/ssh_host_ed25519_key").chmod(0o600)

    def seed(self, **backup: Any) -> None:  # noqa: ANN401 - any value of the key
        write_node(NodeConfig(backup=backup), [], self.root)

    def wipe(self) -> None:
        """Flash it anew: an empty /var, and another host key."""
        shutil.rmtree(self.path(""))
        self.path("").mkdir()
        self.write("etc/machine-id", "f" * 32 + "\n")
        self.write("etc/ssh/ssh_host_ed25519_key", "a new key\n")
        (self.root / "etc/ssh/ssh_host_ed25519_key").write_text("a new key\n")

    def back_up(self, *, due_only: bool = False) -> list[Trouble]:
        return back_up(self.said.append, self.root, due_only=due_only)

    def verify(self) -> list[Trouble]:
        return verify(self.said.append, self.root)

    def restore(self, **wish: Any) -> list[str]:  # noqa: ANN401 - any value of Wish
        return restore.restore(Wish(**wish), self.said.append, self.root)

    def boot(self) -> None:
        at_boot(self.said.append, self.root)

    def remembered(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read("backup/state.json"))
        return found

    def metrics(self) -> str:
        return (self.root / "run/imgnode/metrics/backup.prom").read_text()


def play(root: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Return a node with a state; restic is started, nothing else is."""
    node = Node(root)
    for folder in ("usr/lib/imgnode", "proc", "run/imgnode", "etc/ssh", "etc/credstore", "var"):
        (root / folder).mkdir(parents=True)
    facts = {"image_id": "imgbuild-cpu", "version": "1.2"}
    (root / "usr/lib/imgnode/image.json").write_text(json.dumps(facts))
    (root / "proc/cmdline").write_text("roothash=" + "ab" * 32)
    conf = ROOT / "overlays/backup/usr/lib/imgnode/backup.conf"
    shutil.copy(conf, root / "usr/lib/imgnode/backup.conf")
    shutil.copy(ROOT / "image/etc-persist.conf", root / "usr/lib/imgnode/etc-persist.conf")
    (root / "etc/credstore/imgnode.backup-key").write_text(f"{KEY}\n")
    (root / "etc/credstore/imgnode.backup-login").write_text(f"{LOGIN}\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    node.seed()
    node.live()
    genuine = process.run

    def run(
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        **more: Any,  # noqa: ANN401
    ) -> process.Finished:
        node.ran.append(list(argv))
        node.envs.append(env or {})
        if argv[0] != "restic":
            return process.Finished(0, "", "")
        return genuine(argv, env=env, **more)

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(restore, "run", run)
    monkeypatch.setattr(targets, "reach", lambda _: None)
    return node


def remote(port: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any value of the key
    """Return a seed's `backup` for a rest server on the loopback interface."""
    return {
        "remote": f"rest:http://127.0.0.1:{port}/nodes",
        "key": {"secret": "backup-key"},
        "user": "gpu",
        "password": {"secret": "backup-login"},
        "node": "gpu-07",
        **changes,
    }

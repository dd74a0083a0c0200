"""SSH to the node: a key of our own, commands, and a configuration for other clients."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.vm.errors import HostKeyChanged, VmTimeout
from builder.vm.process import Captured, capture
from builder.vm.serial import indent

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.process import Runner

HOST = "node"
CONNECT_S = 10
SSH_FAILED = 255
_RETRY_S = 1.0
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"


@dataclass(frozen=True)
class SshKey:
    """A key pair: the private key's file, and the public key as one line."""

    private: Path
    public: str


def make_key(runner: Runner, folder: Path) -> SshKey:
    """Make an ed25519 key without passphrase in `folder`, or take the one made before."""
    private = folder / "id_ed25519"
    folder.mkdir(parents=True, exist_ok=True)
    if not private.exists():
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "imgbuild", "-f"]
        runner.run([*words, private], timeout_s=30)
    return SshKey(private, private.with_suffix(".pub").read_text().strip())


def ssh_config(port: int, key: Path, known_hosts: Path, user: str = "admin") -> str:
    """Return the text of an ssh_config that knows the machine as `node`.

    A host key is learnt at the first connection; another one is refused from then on,
    whatever the port, since all machines go by the same name in `known_hosts`.
    """
    options = {
        "HostName": "127.0.0.1",
        "HostKeyAlias": HOST,
        "Port": str(port),
        "User": user,
        "IdentityFile": f'"{key}"',
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "accept-new",
        "UpdateHostKeys": "no",
        "PreferredAuthentications": "publickey",
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_S),
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "6",
        "LogLevel": "ERROR",
    }
    lines = [f"Host {HOST}", *(f"    {name} {value}" for name, value in options.items())]
    return "\n".join(lines) + "\n"


class Ssh:
    """Commands on the node behind 127.0.0.1:`port`.

    `folder` receives `ssh_config` (for `ssh -F`, Ansible, testinfra's
    `get_host("ssh://node", ssh_config=…)`) and `known_hosts`, which is kept when a
    folder is used again.
    """

    def __init__(
        self, runner: Runner, folder: Path, *, port: int, key: SshKey, user: str = "admin"
    ) -> None:
        self.config = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self._runner = runner
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(ssh_config(port, key.private, self.known_hosts, user))

    def run(self, command: str, timeout_s: float = 60.0) -> Captured:
        """Run a shell command; return its exit status and output, 255 if SSH failed.

        Raises VmTimeout after `timeout_s` seconds, HostKeyChanged when the node shows
        another key than before.
        """
        argv = ["ssh", "-F", str(self.config), HOST, "--", command]
        done = capture(self._runner, argv, timeout_s)
        if done is None:
            raise VmTimeout(f"`{command}` over SSH: no end after {timeout_s:g} s")
        if done.rc == SSH_FAILED and _CHANGED in done.stderr:
            raise HostKeyChanged(f"the node's SSH host key changed:\n{indent(done.stderr)}")
        return done

    def wait_ready(self, timeout_s: float) -> float:
        """Wait until the node lets us in; return the seconds it took.

        Raises VmTimeout with SSH's last words, and HostKeyChanged at once.
        """
        started = time.monotonic()
        words = ""
        while (left := timeout_s - (time.monotonic() - started)) > 0:
            try:
                done = self.run("true", timeout_s=min(left, CONNECT_S * 3))
            except VmTimeout as error:
                words = words or str(error)
                continue
            if done.rc == 0:
                return time.monotonic() - started
            words = done.stderr.strip()
            time.sleep(_RETRY_S)
        raise VmTimeout(f"no SSH login within {timeout_s:g} s; last answer:\n{indent(words)}")

"""The two places of backups: the node's own disk, always, and the remote that the seed names."""

from __future__ import annotations

import os
import secrets as random
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imgnode.backup.restic import Repository
from imgnode.backup.stage import HOME, empty_folder, home
from imgnode.backup.trouble import REACH, SECRET, Trouble
from imgnode.backupconfig import KEEP, REST, S3, SFTP, Backup, Place, place
from imgnode.files import write_atomic
from imgnode.nodeconfig import read_node
from imgnode.serve.secrets import Find, credentials

LOCAL, REMOTE = "local", "remote"
_REPOSITORY, _KEY = HOME / "repo", HOME / "key"
_HANDED = Path("run/imgnode/backup")
_ALIAS = "backup"
_ANSWER_S = 15.0
_SECRET = 0o600


def settings(root: Path = Path("/")) -> Backup:
    """Return what the seed says of backups; the defaults where it says nothing."""
    node = read_node(root)
    return Backup(**node.backup) if node else Backup()


def name_of_node(config: Backup) -> str:
    """Return the name under which this node's backups are kept."""
    return config.node or os.uname().nodename.partition(".")[0]


def keep(config: Backup) -> dict[str, int]:
    """Return how many backups stay, and for how many days."""
    return {**KEEP, **(config.keep or {})}


def names(config: Backup) -> tuple[str, ...]:
    """Return the targets that there are."""
    return (LOCAL, REMOTE) if config.remote else (LOCAL,)


def open_target(target: str, config: Backup, root: Path = Path("/")) -> Repository:
    """Return the repository of a target. Raises Trouble for what is missing to reach it, OSError.

    The key of the local one lies beside it: it guards a copy of the repository, not the disk,
    which holds the same files in clear.
    """
    if target == REMOTE:
        return _remote(config, root)
    key = home(root) / _KEY.name
    if not key.exists():
        write_atomic(key, f"{random.token_urlsafe(32)}\n", _SECRET)
    words = ("--repo", str(root / _REPOSITORY), "--password-file", str(key))
    return Repository(LOCAL, words, shared=False)


def put_away(root: Path = Path("/")) -> None:
    """Remove the secrets that were written down for restic and ssh."""
    shutil.rmtree(root / _HANDED, ignore_errors=True)


def size(root: Path = Path("/")) -> int:
    """Return the bytes of the local repository."""
    found = (root / _REPOSITORY).rglob("*")
    return sum(path.lstat().st_size for path in found if path.is_file())


def _remote(config: Backup, root: Path) -> Repository:
    where = place(config.remote or "")
    if where is None:
        raise ValueError("the seed names no remote")
    find = credentials(root)
    key = _secret("key", config.key, find)
    password = _secret("password", config.password, find) if config.password else ""
    ssh_key = _secret("ssh_key", config.ssh_key, find) if config.ssh_key else ""
    reach(where)
    folder = empty_folder(root / _HANDED)
    address = where.below(name_of_node(config))
    env: dict[str, str] = {}
    if where.kind == REST and config.user:
        login = f"://{quote(config.user, safe='')}:{quote(password, safe='')}@"
        address = address.replace("://", login, 1)
    elif where.kind == S3:
        env = {"AWS_ACCESS_KEY_ID": config.user or "", "AWS_SECRET_ACCESS_KEY": password}
    write_atomic(folder / "repository", f"{address}\n", _SECRET)
    write_atomic(folder / "key", f"{key}\n", _SECRET)
    words = ["--repository-file", str(folder / "repository"), "--password-file"]
    words += [str(folder / "key")]
    if where.kind == SFTP:
        words += ["-o", f"sftp.command={_ssh(where, config.host_key or '', ssh_key, folder)}"]
    hidden = (key, password, quote(password, safe=""))
    return Repository(REMOTE, tuple(words), env, tuple(one for one in hidden if one))


def reach(where: Place) -> None:
    """Look whether the remote answers at all: restic itself would try for a quarter of an hour.

    Raises Trouble.
    """
    try:
        socket.create_connection((where.host, where.port), _ANSWER_S).close()
    except OSError as error:
        fact = f"remote: {where.host}:{where.port} does not answer: {error.strerror or error}"
        raise Trouble(REACH, fact, "is the server up, and does this node have a route?") from error


def _ssh(where: Place, host_key: str, ssh_key: str, folder: Path) -> str:
    """Write what ssh(1) needs, and return the command that restic speaks SFTP with."""
    write_atomic(folder / "ssh_key", f"{ssh_key}\n", _SECRET)
    write_atomic(folder / "known_hosts", f"{_ALIAS} {host_key}\n", _SECRET)
    options: Mapping[str, Any] = {
        "HostName": where.host,
        "Port": where.port,
        "User": where.user,
        "HostKeyAlias": _ALIAS,
        "IdentityFile": folder / "ssh_key",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": folder / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": int(_ANSWER_S),
        "ServerAliveInterval": 15,
    }
    text = "\n".join(f"    {name} {value}" for name, value in options.items())
    write_atomic(folder / "ssh_config", f"Host {_ALIAS}\n{text}\n", _SECRET)
    return f"ssh -F {folder / 'ssh_config'} {_ALIAS} -s sftp"


def _secret(key: str, reference: Mapping[str, str] | None, find: Find) -> str:
    name = (reference or {}).get("secret", "")
    value = find(name) if name else None
    if not value:
        where = f"/etc/credstore/imgnode.{name}"
        fact = f"backup.{key}: the secret {name!r} is not on this node"
        hint = f"write it to {where}, mode 0600 (write_files in the seed)"
        raise Trouble(SECRET, fact, f"{hint}, or give the machine the system credential")
    return value.rstrip("\n")

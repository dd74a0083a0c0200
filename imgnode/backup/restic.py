"""The one door to restic(1). Secrets reach it by files and environment, never by argv."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.backup.trouble import BUSY, DAMAGED, KEY, MISSING, REACH, RESTIC, SPACE, Trouble

PROGRAM = "restic"
_TIMED_OUT = 124
_QUICK_S, _UNPACK_S, _LONG_S = 300, 600, 3600
# Go's collector works harder for a smaller heap: about 55 MB instead of 85, and none in between.
_SMALL: Mapping[str, str] = {"GOGC": "20", "GOMEMLIMIT": "64MiB", "GOMAXPROCS": "2"}
_TOLD = 200
_MEANS = (  # the first that fits restic's words (0.14)
    (KEY, r"wrong password or no key found"),
    (SPACE, r"no space left|quota exceeded|disk full"),
    (BUSY, r"already locked|unable to create lock"),
    (
        REACH,
        r"refused|unreachable|no such host|timed? ?out|timeout|reset by peer|\bEOF\b|x509|tls:|"
        r"unable to start the sftp session|Host key verification|Permission denied|"
        r"HTTP response \(40[13]\)|Access ?Denied",  # a port may hold 403, too
    ),
    (MISSING, r"unable to open config file: .*(does not exist|no such file|\(404\))"),
    (DAMAGED, r"verification failed|hash mismatch|contains errors|invalid data|does not match"),
)
_HINTS: Mapping[str, str] = {
    KEY: "the seed's `key` is not the one that the repository was made with",
    DAMAGED: "imgnode backup verify",
    BUSY: "if nobody uses the repository: `restic unlock`",
}


@dataclass(frozen=True)
class Repository:
    """Where backups lie; `words` and `env` say how restic gets there. `redacted` is never told."""

    target: str
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    redacted: tuple[str, ...] = field(default=(), repr=False)
    shared: bool = True  # whether others may hold a lock on it


@dataclass(frozen=True)
class Snapshot:
    """One backup; `when` is as restic writes it (RFC 3339), `top` the folder that was read."""

    name: str
    when: str
    node: str
    version: str
    top: Path

    @property
    def moment(self) -> str:
        """The time for people, to the second."""
        return f"{self.when[:10]} {self.when[11:19]} UTC"


def back_up(repository: Repository, folder: Path, node: str, version: str) -> str:
    """Put a folder into the repository, making that where there is none; return the new name.

    Raises Trouble.
    """
    words = ["backup", "--json", "--host", node, "--tag", version, "--", str(folder)]
    try:
        told = _run(repository, *words, timeout_s=_LONG_S)
    except Trouble as trouble:
        if trouble.kind != MISSING:
            raise
        _run(repository, "init", timeout_s=_QUICK_S)
        told = _run(repository, *words, timeout_s=_LONG_S)
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return str(next(one["snapshot_id"] for one in reversed(lines) if "snapshot_id" in one))


def snapshots(repository: Repository) -> list[Snapshot]:
    """Return all backups, oldest first. Raises Trouble."""
    values = json.loads(_run(repository, "snapshots", "--json", timeout_s=_QUICK_S) or "[]")
    return [_snapshot(one) for one in sorted(values or [], key=lambda one: str(one["time"]))]


def forget(repository: Repository, *, count: int, days: int) -> None:
    """Drop what is neither among the newest `count` nor of the last `days`. Raises Trouble."""
    keep = ["--keep-last", str(count), "--keep-within", f"{days}d"]
    _run(repository, "forget", "--prune", "--group-by", "", *keep, timeout_s=_LONG_S)


def check(repository: Repository, *, read_all: bool) -> None:
    """Judge the repository itself, with `read_all` every byte of it. Raises Trouble."""
    _run(repository, "check", *(["--read-data"] if read_all else []), timeout_s=_LONG_S)


def unpack(repository: Repository, snapshot: Snapshot, folder: Path) -> Path:
    """Bring one backup back into a folder; return where in it the files lie. Raises Trouble."""
    _run(repository, "restore", snapshot.name, "--target", str(folder), timeout_s=_UNPACK_S)
    return folder / snapshot.top.relative_to("/")


def _snapshot(values: Mapping[str, Any]) -> Snapshot:
    version = (values.get("tags") or ["?"])[0]
    top = Path(values["paths"][0])
    return Snapshot(values["short_id"], values["time"], values["hostname"], version, top)


def _run(repository: Repository, *words: str, timeout_s: float) -> str:
    """Run one command and return what it printed; a lock that was left behind is taken away."""
    try:
        return _once(repository, *words, timeout_s=timeout_s)
    except Trouble as trouble:
        if trouble.kind != BUSY:
            raise
    stale = [] if repository.shared else ["--remove-all"]
    _once(repository, "unlock", *stale, timeout_s=_QUICK_S)
    return _once(repository, *words, timeout_s=timeout_s)


def _once(repository: Repository, *words: str, timeout_s: float) -> str:
    argv = [PROGRAM, "--no-cache", *repository.words, *words]
    done = process.run(argv, timeout_s=timeout_s, env={**_SMALL, **repository.env})
    if done.rc == 0:
        return done.stdout
    text = done.stderr
    for secret in filter(None, repository.redacted):
        text = text.replace(secret, "***")
    kind = REACH if done.rc == _TIMED_OUT else meaning(text)
    raise Trouble(kind, f"{repository.target}: {_last_words(text)}", _HINTS.get(kind))


def meaning(text: str) -> str:
    """Return the kind of trouble that restic's words tell of."""
    return next((kind for kind, words in _MEANS if re.search(words, text)), RESTIC)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal: ")]
    told = (fatal or lines or ["restic failed without a word"])[-1].removeprefix("Fatal: ")
    return "".join(one if one.isprintable() else "?" for one in told)[:_TOLD]

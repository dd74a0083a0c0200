"""The `backup:` key of a seed: where this node's state is kept a second time, and how long.

Like `inference:` it has one model, for `imgbuild seed check`, the guard and editors alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from imgnode.problems import Problem
from imgnode.rules import Choice, Range, Rule, Secret, Table, Text

KEY = "backup"
LATEST, NEVER = "latest", "never"
KEEP = {"count": 30, "days": 90}
SFTP, REST, S3 = "sftp", "rest", "s3"
_HOST = r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_PATH = r"(?P<path>(?:/[A-Za-z0-9._~-]*){0,16})"
_USER = r"(?P<user>[a-z_][a-z0-9_-]{0,31})"
_FORMS: Mapping[str, str] = {  # restic(1): "Preparing a new repository"
    SFTP: f"sftp://{_USER}@{_HOST}{_PORT}{_PATH}",
    REST: f"rest:https?://{_HOST}{_PORT}{_PATH}",
    S3: f"s3:https?://{_HOST}{_PORT}{_PATH}",
}
_PORTS = {"sftp:": 22, "rest:http:": 80, "rest:https:": 443, "s3:http:": 80, "s3:https:": 443}
_HINT = (
    "sftp://USER@HOST[:PORT]//PATH, rest:https://HOST[:PORT]/PATH or "
    "s3:https://HOST[:PORT]/BUCKET[/PATH], without a password"
)


@dataclass(frozen=True)
class Place:
    """A remote, taken apart; `kind` is SFTP, REST or S3, `user` is None but for SFTP."""

    url: str
    kind: str
    host: str
    port: int
    user: str | None

    def below(self, node: str) -> str:
        """Return the address of one node's own repository."""
        return f"{self.url.rstrip('/')}/{node}"


def place(text: str) -> Place | None:
    """Return what a remote's address says, None for one that is not understood."""
    for kind, form in _FORMS.items():
        match = re.fullmatch(form, text)
        if match and ".." not in match["path"].split("/"):
            scheme = next(one for one in _PORTS if text.startswith(one))
            port = int(match["port"] or _PORTS[scheme])
            user = match["user"] if kind == SFTP else None
            return Place(text, kind, match["host"].strip("[]"), port, user)
    return None


@dataclass(frozen=True)
class Remote:
    """An address of a remote. Messages never show it: a password may have been put into it."""

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse what is no address of a kind that is known here."""
        if isinstance(value, str) and place(value):
            return []
        return [Problem(path, "cannot be understood", _HINT)]

    def schema(self) -> dict[str, Any]:
        """Return a string with a pattern."""
        forms = "|".join(re.sub(r"\?P<\w+>", "?:", form) for form in _FORMS.values())
        return {"type": "string", "pattern": f"^(?:{forms})$"}


def _about(rule: Rule, doc: str, example: object) -> dict[str, Any]:
    return {"rule": rule, "doc": doc, "example": example}


@dataclass(frozen=True)
class Backup:
    """Where and how long backups are kept; without a remote, on the node's own disk alone."""

    remote: str | None = field(
        default=None,
        metadata=_about(
            Remote(),
            "where a second copy goes; each node has its own folder below",
            "sftp://backup@10.0.0.5//srv/backup",
        ),
    )
    key: dict[str, str] | None = field(
        default=None,
        metadata=_about(
            Secret(), "what encrypts the remote, as {secret: NAME}", {"secret": "backup-key"}
        ),
    )
    ssh_key: dict[str, str] | None = field(
        default=None,
        metadata=_about(
            Secret(),
            "private SSH key for sftp, as {secret: NAME}",
            {"secret": "backup-ssh-key"},
        ),
    )
    host_key: str | None = field(
        default=None,
        metadata=_about(
            Text(r"(ssh|ecdsa)-[a-z0-9-]+ AAAA[A-Za-z0-9+/]*={0,3}", "such as ssh-ed25519 AAAA…"),
            "public host key of the sftp server",
            "ssh-ed25519 AAAA",
        ),
    )
    user: str | None = field(
        default=None,
        metadata=_about(
            Text(r"[A-Za-z0-9._-]{1,128}", "letters, digits, dots, hyphens and underscores"),
            "user of a rest server, or access key ID of S3",
            "gpu-nodes",
        ),
    )
    password: dict[str, str] | None = field(
        default=None,
        metadata=_about(
            Secret(), "its password or secret key, as {secret: NAME}", {"secret": "backup-login"}
        ),
    )
    keep: dict[str, int] | None = field(
        default=None,
        metadata=_about(
            Table({"count": Range(1, 1000), "days": Range(1, 3650)}),
            "how many backups stay at least, and for how many days all do",
            KEEP,
        ),
    )
    node: str | None = field(
        default=None,
        metadata=_about(
            Text(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", "letters, digits and hyphens"),
            "name of this node's folder; default: its host name",
            "gpu-07",
        ),
    )
    restore: str | None = field(
        default=None,
        metadata=_about(
            Choice((LATEST, NEVER)),
            "latest: a node that was flashed anew takes its state back; default: never",
            LATEST,
        ),
    )

    def settings(self) -> dict[str, Any]:
        """Return what is set, as it would stand in a seed."""
        return {name: value for name, value in asdict(self).items() if value is not None}


RULES: Mapping[str, Rule] = {one.name: one.metadata["rule"] for one in fields(Backup)}
DOCS: Mapping[str, str] = {one.name: one.metadata["doc"] for one in fields(Backup)}
EXAMPLES: Mapping[str, Any] = {one.name: one.metadata["example"] for one in fields(Backup)}


def check(value: object) -> tuple[Backup | None, list[Problem]]:
    """Return the config that a value of `backup:` means, or None and all its problems."""
    given = {} if value is None else value
    problems = Table(RULES).problems(KEY, given)
    if problems or not isinstance(given, Mapping):
        return None, problems
    config = Backup(**given)
    problems = _together(config)
    return (None, problems) if problems else (config, [])


def _together(config: Backup) -> list[Problem]:
    """Return what is wrong between keys that are each good."""
    where = place(config.remote) if config.remote else None
    given = config.settings()
    if where is None:
        lonely = [one for one in ("ssh_key", "host_key", "user", "password") if one in given]
        lonely += ["restore"] if config.restore == LATEST else []
        return [Problem(f"{KEY}.{one}", "means nothing without a remote") for one in lonely]
    sftp = where.kind == SFTP
    needed = ["key", *(["ssh_key", "host_key"] if sftp else [])]
    needed += ["user", "password"] if where.kind == S3 or {"user", "password"} & {*given} else []
    useless = {"user", "password"} if sftp else {"ssh_key", "host_key"}
    found = [
        Problem(f"{KEY}.{one}", f"is missing, and {where.kind} needs it", f"{one}: {EXAMPLES[one]}")
        for one in needed
        if one not in given and one not in useless
    ]
    wrong = [one for one in given if one in useless]
    return found + [Problem(f"{KEY}.{one}", f"means nothing for {where.kind}") for one in wrong]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the key."""
    properties = {
        name: {"description": DOCS[name], **rule.schema()} for name, rule in RULES.items()
    }
    return {
        "description": "where this node's state is kept a second time, and how long",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }

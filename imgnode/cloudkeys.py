"""What the cloud-init part of a seed may hold: the keys that this image acts on, by type.

The modules that run are named in overlays/seed; a key of any other module would do nothing,
so it is a mistake. Types are those of cloud-init's own schema (22.4): a value of another
type makes a module fail, and a failed unit would cost the image its good mark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from imgnode.backupconfig import KEY as BACKUP
from imgnode.inference import KEY as INFERENCE
from imgnode.problems import Problem, shown, unknown_key

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63}){0,8}")
Fits = Callable[[object], bool]


def _is(*kinds: type) -> Fits:
    return lambda value: isinstance(value, kinds)


def _list_of(*kinds: type) -> Fits:
    return lambda value: isinstance(value, list) and all(isinstance(one, kinds) for one in value)


def _host(value: object) -> bool:
    return isinstance(value, str) and _HOST.fullmatch(value) is not None


_HOST_WORDS = "must be a host name: letters, digits, hyphens"
# key: (what fits, in words, JSON Schema)
_USER: dict[str, tuple[Fits, str, dict[str, Any]]] = {
    "hostname": (_host, _HOST_WORDS, {"type": "string"}),
    "fqdn": (_host, _HOST_WORDS, {"type": "string"}),
    "prefer_fqdn_over_hostname": (_is(bool), "must be true or false", {"type": "boolean"}),
    "ssh_authorized_keys": (
        _list_of(str),
        "must be a list of public keys",
        {"type": "array", "items": {"type": "string"}},
    ),
    "users": (
        _list_of(str, dict),
        "must be a list of users",
        {"type": "array", "items": {"type": ["string", "object"]}},
    ),
    "groups": (_is(str, list, dict), "must be groups", {"type": ["string", "array", "object"]}),
    "write_files": (
        _list_of(dict),
        "must be a list of maps, each with a path",
        {"type": "array", "items": {"type": "object", "required": ["path"]}},
    ),
    "ca_certs": (_is(dict), "must be a map", {"type": "object"}),
    "ntp": (_is(dict), "must be a map", {"type": "object"}),
    "timezone": (_is(str), "must be text", {"type": "string"}),
    "runcmd": (
        _list_of(str, list),
        "must be a list of commands",
        {"type": "array", "items": {"type": ["string", "array"]}},
    ),
    "ssh": (_is(dict), "must be a map", {"type": "object"}),
    "final_message": (_is(str), "must be text", {"type": "string"}),
}
_META: dict[str, tuple[Fits, str]] = {
    "instance-id": (_is(str), "must be text"),
    "local-hostname": (_host, _HOST_WORDS),
    "hostname": (_host, _HOST_WORDS),
}
_VERSIONS = (1, 2)
_OWN = (INFERENCE, BACKUP)  # the node's own keys have their own models


def check_user(values: Mapping[str, object]) -> dict[str, Problem]:
    """Return by key what is wrong with cloud-init's keys of user-data."""
    found: dict[str, Problem] = {}
    for key, value in values.items():
        if key not in _USER and key not in _OWN:
            found[key] = unknown_key("", key, [*_USER, *_OWN])
        elif key in _USER and not _USER[key][0](value):
            found[key] = Problem(key, f"{shown(value)} {_USER[key][1]}")
    return found


def check_meta(values: Mapping[str, object]) -> list[Problem]:
    """Return what is wrong with meta-data. `seedfrom` above all: it leads past the guard."""
    found: list[Problem] = []
    for key, value in values.items():
        if key not in _META:
            found.append(unknown_key("meta-data: ", key, _META))
        elif not _META[key][0](value):
            found.append(Problem(f"meta-data: {key}", f"{shown(value)} {_META[key][1]}"))
    return found


def check_network(values: Mapping[str, object]) -> list[Problem]:
    """Return what is wrong with network-config, as far as cloud-init would stop at it."""
    inner = values.get("network", values)
    version = inner.get("version") if isinstance(inner, dict) else None
    if version in _VERSIONS and not isinstance(version, bool):
        return []
    return [Problem("network-config", f"version: {shown(version)} must be 1 or 2")]


def known_user_keys() -> frozenset[str]:
    """Return the keys of user-data that cloud-init acts on here."""
    return frozenset(_USER)


def user_schema() -> dict[str, Any]:
    """Return JSON Schemas by key."""
    return {key: schema for key, (_, _, schema) in _USER.items()}

"""TLS and basic authentication, by the file that all exporters of Prometheus take.

github.com/prometheus/exporter-toolkit, docs/web-configuration.md: the same file serves the node
exporter. Keys that this reader does not know are refused: they may ask for more than it gives.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode import strictyaml

_TLS = ("cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version")
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True)
class WebConfig:
    """`users`: bcrypt hash by name, none: everybody is let in. `tls` is None for plain HTTP."""

    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None


def read(path: Path) -> WebConfig:
    """Return what the file says. Raises OSError, or ValueError that names file and key."""
    text = path.read_text()
    refused: list[strictyaml.Refused] = []
    try:
        values = strictyaml.parse(text, refused.append)
    except strictyaml.NotYaml as error:
        line, fact, _ = strictyaml.explain(text, error)
        raise ValueError(f"{path}: line {line}: {fact}") from error
    if refused:
        raise ValueError(f"{path}: line {refused[0].line}: {refused[0].fact}")
    top = _table(path, "", {} if values is None else values, "tls_server_config basic_auth_users")
    users = _table(path, "basic_auth_users", top.get("basic_auth_users") or {})
    tls = _table(path, "tls_server_config", top.get("tls_server_config") or {}, " ".join(_TLS))
    return WebConfig(_users(path, users), _context(path, tls) if tls else None)


def _users(path: Path, users: Mapping[str, Any]) -> dict[str, str]:
    for name, value in users.items():
        if not isinstance(value, str) or not value.startswith(("$2a$", "$2b$", "$2y$")):
            raise ValueError(f"{path}: basic_auth_users.{name}: must be a hash by bcrypt")
    return dict(users)


def _context(path: Path, tls: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the context; files are beside the configuration file, unless absolute."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _choice(path, tls, "min_version", _VERSIONS, "TLS12")
    for key in ("cert_file", "key_file"):
        if not tls.get(key):
            raise ValueError(f"{path}: tls_server_config.{key}: is required")
    try:
        context.load_cert_chain(path.parent / tls["cert_file"], path.parent / tls["key_file"])
        if tls.get("client_ca_file"):
            context.load_verify_locations(path.parent / tls["client_ca_file"])
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{path}: tls_server_config: {error}") from error
    context.verify_mode = _choice(path, tls, "client_auth_type", _CLIENTS, "NoClientCert")
    if context.verify_mode != ssl.CERT_NONE and not tls.get("client_ca_file"):
        raise ValueError(f"{path}: tls_server_config.client_ca_file: is required")
    return context


def _choice(
    path: Path, tls: Mapping[str, Any], key: str, known: Mapping[str, Any], usual: str
) -> Any:  # noqa: ANN401 - as the map has it
    value = tls.get(key) or usual
    if value not in known:
        raise ValueError(f"{path}: tls_server_config.{key}: must be one of {', '.join(known)}")
    return known[value]


def _table(path: Path, key: str, value: object, known: str | None = None) -> dict[str, Any]:
    where = f"{path}: {key}: " if key else f"{path}: "
    if not isinstance(value, dict):
        raise ValueError(f"{where}must be a map")  # noqa: TRY004 - of the file
    if known is not None and (unknown := sorted(set(value) - set(known.split()))):
        raise ValueError(f"{where}{unknown[0]}: is not known here (known: {known})")
    return value

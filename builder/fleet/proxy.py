"""An HAProxy in front of the nodes: one port for each model, over all nodes that serve it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from builder.core.errors import UserError
from builder.fleet.nodes import Node

_LINE = re.compile(r"[\x21-\x7e]+")
# Each request has a connection of its own to the node: a node that drains refuses new connections,
# so the request goes to another one and none is lost; what runs there ends in peace. Nodes of a
# wave refuse all at once, and look the least busy then: one refusal takes a node out until its
# checks are good again, and a request may meet several. A busy vLLM may answer checks late.
_HEAD = """\
# Made by `imgbuild fleet proxy` from {source}; for HAProxy 2.6 or newer.
defaults
    mode http
    option http-server-close
    http-reuse never
    option redispatch 1
    retries 10
    retry-on conn-failure
    timeout connect 3s
    timeout check 30s
    timeout queue 60s
    timeout client 1h
    timeout server 1h
    balance leastconn
    default-server check inter 2s fall 2 rise 2 maxconn 256
    default-server observe layer4 error-limit 1 on-error mark-down

frontend state
    bind {listen}:{state_port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /
"""
_MODEL = """
# {name}
listen {label}
    bind {listen}:{port}
    option httpchk
    http-check send meth GET uri /health
    http-check expect status 200
"""


def haproxy(nodes: Sequence[Node], *, source: str, listen: str, port: int, state_port: int) -> str:
    """Return the configuration: models by name, from `port` on upwards.

    Raises UserError where no node serves a model, or an address cannot stand in it.
    """
    served: dict[str, list[Node]] = {}
    for node in nodes:
        name = str(node.inference.get("served_name") or node.model)
        if name:
            served.setdefault(name, []).append(node)
    if not served:
        raise UserError("no node serves a model", hint="`inference:` in the inventory")
    text = _HEAD.format(source=source, listen=listen, state_port=state_port)
    for number, name in enumerate(sorted(served)):
        label = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
        label = f"{label}-{number}" if _twice(label, served) else label
        text += _MODEL.format(name=_plain(name), label=label, listen=listen, port=port + number)
        for node in served[name]:
            text += f"    server {_plain(node.name)} {_plain(node.address)}:{node.port}\n"
    return text


def _twice(label: str, names: dict[str, list[Node]]) -> bool:
    return sum(re.sub(r"[^A-Za-z0-9_.-]", "-", one) == label for one in names) > 1


def _plain(word: str) -> str:
    if not _LINE.fullmatch(word) or set(word) & set("\"'#\\"):
        raise UserError(f"{word!r}: cannot stand in HAProxy's configuration")
    return word

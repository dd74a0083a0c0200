"""What a machine is to become: the order that the provisioning server gives it, as JSON.

{"releases": "http://…", "image_id": "imgbuild-a100", "channel": "stable",
 "disk": "largest-nvme", "wipe": false, "seed": {"user-data": "…", "meta-data": "…"},
 "report": "http://…", "then": "reboot", "peers": ["http://…"], "share": 7411}

Nothing of it is believed about the image itself: that is signed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from imgnode.seed import LIMITS, NOT_READ
from imgnode.update.channel import PLAIN

_ADDRESS = re.compile(r"https?://[!-~]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
_KEYS = {"releases", "image_id", "channel", "disk", "wipe", "seed", "report", "then"}
_KEYS |= {"peers", "share"}
_SHOWN = 500
_PORTS = range(1, 65536)
_ENDS = {"reboot", "poweroff", "stay"}
_SEED_FILES = {*LIMITS, NOT_READ}


class Wait(Exception):
    """The server has no order yet, and says why: `{"wait": "…"}`."""


@dataclass(frozen=True)
class Order:
    """`disk` is a rule (imgnode.install.disks); `wipe`: nothing on the disk is kept, `var` neither.

    `seed` has the files of CIDATA by name; `report` is None where nobody wants to know. `peers` are
    neighbours to fetch from first; `share` is the port to serve others on afterwards.
    """

    releases: str
    image_id: str
    channel: str = "stable"
    disk: str = "largest-nvme"
    wipe: bool = False
    seed: Mapping[str, str] = field(default_factory=dict)
    report: str | None = None
    then: str = "reboot"
    peers: tuple[str, ...] = ()
    share: int | None = None


def parse_order(text: str, carried: str | None = None) -> Order:
    """Return what an order says. Raises ValueError, which names the key, for anything else.

    Raises Wait where this is none yet.

    `carried` is where the releases are when it does not say: beside it.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("an order is a JSON object")  # noqa: TRY004 - of the text
    if set(values) == {"wait"}:
        raise Wait(str(values["wait"])[:_SHOWN])
    if unknown := set(values) - _KEYS:
        raise ValueError(f"{', '.join(sorted(unknown))}: not known")
    if carried is None or "releases" in values:
        releases = _matching(_ADDRESS, "releases", values.get("releases")).rstrip("/")
    else:
        releases = carried
    order = Order(
        releases=releases,
        image_id=_matching(PLAIN, "image_id", values.get("image_id")),
        channel=_matching(_NAME, "channel", values.get("channel", "stable")),
        disk=str(values.get("disk", "largest-nvme")),
        wipe=values.get("wipe", False),
        seed=_seed(values.get("seed", {})),
        report=_matching(_ADDRESS, "report", values["report"]) if values.get("report") else None,
        then=str(values.get("then", "reboot")),
        peers=_peers(values.get("peers", [])),
        share=values.get("share"),
    )
    if not isinstance(order.wipe, bool):
        raise ValueError("wipe: is not true or false")  # noqa: TRY004
    if order.then not in _ENDS:
        raise ValueError(f"then: {order.then!r} is none of {', '.join(sorted(_ENDS))}")
    if order.share is not None and (order.share is True or order.share not in _PORTS):
        raise ValueError(f"share: {order.share!r} is no port")
    return order


def _matching(pattern: re.Pattern[str], key: str, value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key}: {value!r} does not fit")
    return value


def _peers(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError("peers: is not a list of addresses")  # noqa: TRY004
    return tuple(_matching(_ADDRESS, "peers", one).rstrip("/") for one in values)


def _seed(values: object) -> dict[str, str]:
    if not isinstance(values, dict):
        raise ValueError("seed: is not a map of files")  # noqa: TRY004
    for name, text in values.items():
        if name not in _SEED_FILES or not isinstance(text, str):
            raise ValueError(f"seed: {name!r} is no seed file with its text")
    return values

"""What a machine is to become: the order that the provisioning server gives it, as JSON.

{"releases": "http://…", "image_id": "imgbuild-a100", "channel": "stable",
 "disk": "largest-nvme", "wipe": false, "seed": {"user-data": "…", "meta-data": "…"},
 "report": "http://…", "then": "reboot"}

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
_ENDS = {"reboot", "poweroff", "stay"}
_SEED_FILES = {*LIMITS, NOT_READ}


@dataclass(frozen=True)
class Order:
    """`disk` is a rule (imgnode.install.disks); `wipe`: nothing on the disk is kept, `var` neither.

    `seed` has the files of CIDATA by name; `report` is None where nobody wants to know.
    """

    releases: str
    image_id: str
    channel: str = "stable"
    disk: str = "largest-nvme"
    wipe: bool = False
    seed: Mapping[str, str] = field(default_factory=dict)
    report: str | None = None
    then: str = "reboot"


def parse_order(text: str, carried: str | None = None) -> Order:
    """Return what an order says. Raises ValueError, which names the key, for anything else.

    `carried` is where the releases are when it does not say: beside it.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("an order is a JSON object")  # noqa: TRY004 - of the text
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
    )
    if not isinstance(order.wipe, bool):
        raise ValueError("wipe: is not true or false")  # noqa: TRY004
    if order.then not in _ENDS:
        raise ValueError(f"then: {order.then!r} is none of {', '.join(sorted(_ENDS))}")
    return order


def _matching(pattern: re.Pattern[str], key: str, value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key}: {value!r} does not fit")
    return value


def _seed(values: object) -> dict[str, str]:
    if not isinstance(values, dict):
        raise ValueError("seed: is not a map of files")  # noqa: TRY004
    for name, text in values.items():
        if name not in _SEED_FILES or not isinstance(text, str):
            raise ValueError(f"seed: {name!r} is no seed file with its text")
    return values

"""The channel file: which version this node shall have, and whether it may believe that."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from imgnode.release.versions import is_older
from imgnode.update.facts import Facts
from imgnode.update.refused import (
    EXPIRED,
    FAILED_HERE,
    OLDER,
    OTHER_IMAGE,
    REPLAYED,
    Refused,
)
from imgnode.update.state import State

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,35}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Channel:
    """What a channel says (docs/release-format.md); times in UTC."""

    image_id: str
    channel: str
    serial: int
    version: str
    sums_sha256: str
    minimum: str | None
    expires: datetime


@dataclass(frozen=True)
class Wishes:
    """What the caller allows besides."""

    older: bool = False
    failed: bool = False


def parse_channel(text: str) -> Channel:
    """Return what a signed channel file says. Raises ValueError for anything unexpected in it."""
    values = json.loads(text)
    if not isinstance(values, dict) or values.get("schema_version") != 1:
        raise ValueError("it is of another kind than this version knows")
    try:
        found = Channel(
            image_id=_plain(values["image_id"]),
            channel=_plain(values["channel"]),
            serial=_serial(values["serial"]),
            version=_plain(values["version"]),
            sums_sha256=_matching(_DIGEST, values["sums_sha256"]),
            minimum=_plain(values["minimum"]) if values.get("minimum") else None,
            expires=datetime.fromisoformat(values["expires"]).astimezone(UTC),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it cannot be understood: {error}") from None
    return found


def judge(
    channel: Channel, facts: Facts, name: str, state: State, now: datetime, wishes: Wishes
) -> None:
    """Raise Refused unless this node may take what the channel offers now."""
    if (channel.image_id, channel.channel) != (facts.image_id, name):
        said = f"the channel file is for {channel.image_id}, channel {channel.channel}"
        hint = f"this node is {facts.image_id}, channel {name}: the server mixes them up"
        raise Refused(OTHER_IMAGE, said, hint)
    seen = state.serials.get(name, 0)
    if channel.serial < seen:
        fact = f"the channel file has serial {channel.serial}, this node has seen {seen}"
        raise Refused(REPLAYED, fact, "somebody serves an old file, or a mirror is behind")
    if now >= channel.expires:
        fact = f"the channel file has expired on {channel.expires:%Y-%m-%d %H:%M} UTC"
        raise Refused(EXPIRED, fact, "look at this node's clock; else renew it: imgbuild release")
    if is_older(channel.version, facts.version) and not wishes.older:
        fact = f"the channel is at {channel.version}, this node runs {facts.version}, a newer one"
        raise Refused(OLDER, fact, "--allow-older takes it all the same")
    failed = state.failed.get(channel.version)
    if failed and channel.version != facts.version and not wishes.failed:
        fact = f"{channel.version} did not come up on this node: {failed}"
        raise Refused(FAILED_HERE, fact, "--retry tries it again")


def _plain(value: str) -> str:
    return _matching(PLAIN, value)


def _matching(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{value!r} does not fit")
    return value


def _serial(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"serial {value!r} is no positive whole number")
    return value

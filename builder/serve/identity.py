"""What a machine can be known by: MAC, serial number, UUID. It can be guessed: no proof."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from builder.model.base import Closed

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOST_TEXT, _MOST_MACS = 64, 64
# What boards say whose maker has filled in nothing: it would fit all of them.
_NOTHING = {"", "none", "n/a", "default string", "not specified", "to be filled by o.e.m.",
            "system serial number", "unknown"}  # fmt: skip


def clean_mac(value: object) -> str:
    """Return a MAC as `52:54:00:12:34:56`. Raises ValueError for anything else."""
    text = str(value).strip().lower().replace("-", ":")
    if not isinstance(value, str) or not _MAC.fullmatch(text):
        raise ValueError("must be a MAC in quotes, such as '52:54:00:12:34:56'")
    return text


def clean_uuid(value: object) -> str:
    """Return a UUID in small letters. Raises ValueError for anything else."""
    text = str(value).strip().lower()
    if not isinstance(value, str) or not _UUID.fullmatch(text):
        raise ValueError("must be a UUID, as /sys/class/dmi/id/product_uuid has it")
    return text


def clean_serial(value: object) -> str:
    """Return a serial number. Raises ValueError for one that many machines have."""
    text = _plain(str(value))
    if not isinstance(value, str) or is_nothing(text):
        raise ValueError("must be a serial number that no other machine has, in quotes")
    return text


def is_nothing(serial: str) -> bool:
    """Tell whether a serial number is what a maker leaves in who does not set one."""
    return serial.strip().lower() in _NOTHING or not serial.strip("0. -")


Mac = Annotated[str, BeforeValidator(clean_mac)]
Uuid = Annotated[str, BeforeValidator(clean_uuid)]
Serial = Annotated[str, BeforeValidator(clean_serial), Field(max_length=_MOST_TEXT)]


class Identity(Closed):
    """What one machine says of itself, or what its network card says of it; "" for nothing."""

    serial: str = ""
    uuid: str = ""
    macs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A file name for a machine without a name; the same whenever it comes again."""
        found = self.uuid or (self.macs[0] if self.macs else self.serial)
        return re.sub(r"[^A-Za-z0-9-]", "-", found)[:_MOST_TEXT]

    @property
    def words(self) -> tuple[str, ...]:
        """Everything that it can be known by, told apart by its kind."""
        uuid = (f"uuid {self.uuid}",) if self.uuid else ()
        serial = (f"serial {self.serial}",) if self.serial else ()
        return (*uuid, *serial, *(f"mac {one}" for one in self.macs))


def make_identity(serial: object, uuid: object, macs: Iterable[object]) -> Identity:
    """Return an identity of what a machine sent; what is none of these things is left out."""
    text = _plain(str(serial or ""))
    good: dict[str, None] = {}
    for mac in macs:
        try:
            good[clean_mac(mac)] = None
        except ValueError:
            continue
    try:
        known = clean_uuid(uuid)
    except ValueError:
        known = ""
    return Identity(
        serial="" if is_nothing(text) else text, uuid=known, macs=tuple(good)[:_MOST_MACS]
    )


def of_query(query: Mapping[str, Sequence[str]]) -> Identity:
    """Return the identity in an address: `?serial=…&uuid=…&mac=…&mac=…`."""
    first = {key: (query.get(key) or [""])[0] for key in ("serial", "uuid")}
    return make_identity(first["serial"], first["uuid"], query.get("mac") or ())


def _plain(text: str) -> str:
    """Return one line of what can be printed: it reaches terminals and pages."""
    return "".join(one for one in text if one.isprintable()).strip()[:_MOST_TEXT]

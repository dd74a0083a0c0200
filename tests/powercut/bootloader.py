"""Which entry systemd-boot takes: its rules, in Python.

systemd 254, src/boot/efi/boot.c: config_entry_add_unified, config_entry_compare; the counters are
those of the Boot Loader Specification (UAPI.1) and of systemd-bless-boot(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imgnode.release.versions import version_key

_NAME = re.compile(r"(?P<id>.*?)(\+(?P<left>\d+)(-(?P<done>\d+))?)?\.efi", re.IGNORECASE)


@dataclass(frozen=True)
class Uki:
    """A file in `EFI/Linux`; `version` is that of the release whose UKI it is, None if of none.

    `readable` says whether it at least begins as a program does.
    """

    name: str
    bytes: int
    version: str | None
    readable: bool = True

    @property
    def visible(self) -> bool:
        """Whether the boot loader lists it."""
        hidden = self.name.startswith(".") or self.name.lower().startswith("auto-")
        return self.readable and not hidden and _NAME.fullmatch(self.name) is not None

    @property
    def stem(self) -> str:
        """The name without counter and ending."""
        match = _NAME.fullmatch(self.name)
        return match["id"] if match else self.name

    @property
    def left(self) -> int | None:
        """The tries that are left; None without a counter."""
        match = _NAME.fullmatch(self.name)
        return int(match["left"]) if match and match["left"] else None

    @property
    def done(self) -> int:
        """The tries that were used."""
        match = _NAME.fullmatch(self.name)
        return int(match["done"] or 0) if match else 0


def boot_order(files: Iterable[Uki]) -> list[Uki]:
    """Return the entries in the order in which the boot loader takes them.

    Those without tries last; then the newest version first; of one name, the most tries first.
    """
    entries = [one for one in files if one.visible]
    entries.sort(key=lambda one: (-(one.left or 0), one.done))
    entries.sort(key=lambda one: version_key(one.version or one.stem), reverse=True)
    return sorted(entries, key=lambda one: one.left == 0)

"""Which alerts there are, and what of them each channel has been told. Kept on /var, bounded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imgnode.alert.alert import Alert
from imgnode.files import write_atomic
from imgnode.serve.facts import read_json

FILE = Path("var/lib/imgnode/alert/book.json")
_MOST = 100
_KEPT_S = 86400.0  # what is over and could not be told by then is not told any more


@dataclass(frozen=True)
class Sent:
    """What a channel was told last: when, in seconds since 1970, and whether that it is over."""

    when: float
    over: bool


@dataclass(frozen=True)
class Entry:
    """An alert, and what was told of it by channel."""

    alert: Alert
    sent: Mapping[str, Sent] = field(default_factory=dict)


@dataclass
class Book:
    """All alerts that are firing, or over and not yet told."""

    root: Path = Path("/")
    _entries: dict[str, Entry] = field(init=False)
    _kept: list[tuple[object, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Read what an earlier process has kept; nothing where it is damaged."""
        self._entries = _parse(read_json(self.root / FILE) or {})
        self._kept = self._stamp()

    @property
    def firing(self) -> list[Alert]:
        """The alerts that are firing, the oldest first."""
        found = [one.alert for one in self._entries.values() if one.alert.ends is None]
        return sorted(found, key=lambda one: one.starts)

    def fire(self, alert: Alert) -> None:
        """Add an alert; one that is there already gets its new words, and fires again."""
        name = alert.fingerprint
        known = self._entries.get(name)
        if known is not None and known.alert.ends is None:
            same = replace(known.alert, annotations=dict(alert.annotations))
            self._entries[name] = replace(known, alert=same)
        elif known is not None or len(self._entries) < _MOST or self._make_room():
            self._entries[name] = Entry(alert)

    def end(self, name: str, now: float) -> None:
        """Note that an alert is over."""
        entry = self._entries[name]
        self._entries[name] = replace(entry, alert=replace(entry.alert, ends=now))

    def due(self, channel: str, repeat_s: float, now: float) -> list[Alert]:
        """Return what a channel is to be told now: what is new, what is over, what is due again."""
        return [
            entry.alert
            for entry in self._entries.values()
            if _is_due(entry.alert, entry.sent.get(channel), repeat_s, now)
        ]

    def told(self, channel: str, alerts: Iterable[Alert], now: float) -> None:
        """Note what a channel was told, and begun telling `now`."""
        for alert in alerts:
            entry = self._entries.get(alert.fingerprint)
            if entry is not None and entry.alert.starts == alert.starts:
                sent = {**entry.sent, channel: Sent(now, alert.ends is not None)}
                self._entries[alert.fingerprint] = replace(entry, sent=sent)

    def tidy(self, channels: Iterable[str], now: float) -> None:
        """Drop what is over and told to every channel, or too old to be told."""
        wanted = tuple(channels)
        for name, entry in list(self._entries.items()):
            ends = entry.alert.ends
            if ends is None:
                continue
            told = all(one in entry.sent and entry.sent[one].over for one in wanted)
            if told or now - ends > _KEPT_S:
                del self._entries[name]

    def save(self) -> None:
        """Keep it, where more than words has changed. Raises OSError."""
        if self._stamp() != self._kept:
            told = {"alerts": [asdict(one) for one in self._entries.values()]}
            write_atomic(self.root / FILE, json.dumps(told, indent=1) + "\n", 0o640)
            self._kept = self._stamp()

    def _stamp(self) -> list[tuple[object, ...]]:
        entries = self._entries.items()
        return [(name, one.alert.starts, one.alert.ends, one.sent) for name, one in entries]

    def _make_room(self) -> bool:
        """Drop the alert that is over for longest; tell whether there was one."""
        ends = {name: one.alert.ends for name, one in self._entries.items()}
        over = [(when, name) for name, when in ends.items() if when is not None]
        if over:
            del self._entries[min(over)[1]]
        return bool(over)


def _is_due(alert: Alert, sent: Sent | None, repeat_s: float, now: float) -> bool:
    if sent is None:
        return True
    if alert.ends is not None:
        return not sent.over
    return not 0 <= now - sent.when < repeat_s  # a clock that was set back counts as late


def _parse(values: dict[str, Any]) -> dict[str, Entry]:
    try:
        entries = [
            Entry(
                Alert(**one["alert"]),
                {str(name): Sent(**sent) for name, sent in one["sent"].items()},
            )
            for one in values.get("alerts", [])
        ]
        return {one.alert.fingerprint: one for one in entries}
    except (TypeError, KeyError, AttributeError):
        return {}

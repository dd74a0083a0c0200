"""Who fetches from whom: a few machines from the server, the others from those.

What is known here lives as long as the server: machines that share say so every few seconds, and
those that wait ask again (imgnode.install.share).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from builder.serve.settings import Share

ALIVE_S = 20.0  # a machine that shares says so every five seconds
_ASKS_S = 45.0  # one that waits asks every twenty
_MOST_S = 3600.0
_NAMED = 3  # the second and third for when the first fails
Image = tuple[str, str]  # image id and channel


@dataclass(frozen=True)
class _Source:
    image: Image
    address: str
    since: float
    seen: float


@dataclass
class Peers:
    """What the machines of one server share; times are seconds since 1970."""

    _sources: dict[str, _Source] = field(default_factory=dict)
    _given: dict[str, str] = field(default_factory=dict)  # a node, and whom it fetches from
    _waits: dict[str, float] = field(default_factory=dict)

    def choose(
        self, share: Share, name: str, image: Image, running: Collection[str], now: float
    ) -> tuple[str, ...] | str:
        """Return the addresses a node is to fetch from first, or why it has to wait for them.

        None of them: from the server. `running` are the other nodes that are being installed.
        """
        busy = Counter(self._given.get(one, "") for one in running)
        alive = [one for one in self.sharing(now) if self._sources[one].image == image]
        free = [one for one in alive if busy[one] < share.from_node]
        free.sort(key=lambda one: busy[one])
        if not free and (alive or busy[""] >= share.from_server):
            self._waits[name] = now
            return (
                f"waits its turn: those that share have {share.from_node} each"
                if alive
                else f"waits its turn: {busy['']} fetch from the server, and share then"
            )
        self._waits.pop(name, None)
        self._given[name] = free[0] if free else ""
        return tuple(self._sources[one].address for one in free[:_NAMED])

    def stays(
        self, name: str, image: Image, address: str, running: Collection[str], now: float
    ) -> bool:
        """Take a node's word that it shares; tell whether anybody may need it."""
        known = self._sources.get(name)
        since = known.since if known else now
        waiting = any(now - asked <= _ASKS_S for asked in self._waits.values())
        if (running or waiting) and now - since <= _MOST_S:
            self._sources[name] = _Source(image, address, since, now)
            return True
        self._sources.pop(name, None)
        return False

    def sharing(self, now: float) -> list[str]:
        """Return the nodes that share now."""
        return [name for name, one in self._sources.items() if now - one.seen <= ALIVE_S]

"""Joins the steps: check → stage → write → drain and reboot."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import process
from imgnode.alone import CHANGE, Lock
from imgnode.serve.facts import read_facts as read_serve_facts
from imgnode.update import report
from imgnode.update.channel import Channel, Wishes
from imgnode.update.drain import drain
from imgnode.update.facts import Facts
from imgnode.update.offer import fetch_channel, fetch_offer
from imgnode.update.refused import BUSY, Refused
from imgnode.update.settle import settle
from imgnode.update.stage import Staged, stage, staged
from imgnode.update.write import write

_REBOOT_S = 60
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What a person or the timer wants; `channel` None is the site's."""

    channel: str | None = None
    wishes: Wishes = field(default_factory=Wishes)


@contextmanager
def alone(root: Path = Path("/")) -> Iterator[None]:
    """Keep other runs and recovery away. Raises Refused while one of them goes on."""
    lock = Lock(CHANGE, root)
    who = lock.take("an update")
    if who is not None:
        raise Refused(BUSY, f"{who} goes on", "imgnode update status; imgnode recover status")
    try:
        yield
    finally:
        lock.release()


def check(facts: Facts, order: Order, root: Path = Path("/")) -> Channel:
    """Return what the channel offers; it may be what runs already. Raises Refused or OSError."""
    settle(facts, root)
    with _work(root) as work:
        channel = fetch_channel(facts, order.channel or facts.channel, order.wishes, work, root)
    report.checked(channel, facts, root)
    return channel


def bring(facts: Facts, order: Order, say: Say, root: Path = Path("/")) -> Staged | None:
    """Stage what the channel offers; None when that is what runs. Raises Refused or OSError."""
    channel = check(facts, order, root)
    if channel.version == facts.version:
        return None
    say(f"{channel.version}: staging")
    with _work(root) as work:
        offer = fetch_offer(facts, channel, work, root)
        done = stage(offer, facts, root)
    how = "by patches" if done.patched else "in full"
    say(f"{done.version}: staged {how}, {done.fetched / 1e6:.1f} MB fetched")
    return done


def install(facts: Facts, say: Say, root: Path = Path("/")) -> str:
    """Write what is staged into the other slot; return its version. Raises Refused or OSError."""
    done = staged(root)
    if done is None:
        raise Refused(BUSY, "nothing is staged", "imgnode update stage")
    write(done, facts, root)
    say(f"{done.version}: written, and boots next")
    return done.version


def restart(drain_s: float, say: Say, root: Path = Path("/")) -> None:
    """Let running requests end, then reboot."""
    port = read_serve_facts(root).serve.port
    if not drain(port, drain_s, say):
        say(f"requests still run after {drain_s:g} s: rebooting all the same")
    process.run(["systemctl", "reboot"], timeout_s=_REBOOT_S)


@contextmanager
def _work(root: Path) -> Iterator[Path]:
    folder = root / "run/imgnode"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="offer-", dir=folder) as work:
        yield Path(work)

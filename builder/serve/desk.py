"""Decides what a machine that asks is told, and remembers what it says."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from builder.core.errors import UserError
from builder.serve.identity import Identity
from builder.serve.inventory import Inventory
from builder.serve.peers import Image, Peers
from builder.serve.progress import Report, apply
from builder.serve.records import Record, State, Store
from builder.serve.settings import Wanted
from builder.serve.tokens import Tokens

NOT_KNOWN, NOT_NOW, NOT_ALLOWED = 404, 409, 403
SILENT_S = 60.0  # after so long without a report nobody knows how an installation is
_SETTLES_S = 15.0  # between the end of an installation and the first word that it shares
_LASTING_S = 10.0  # how much progress a killed server may forget


@dataclass(frozen=True)
class Seed:
    """The files of CIDATA by name; `secret`: only who has a token gets them."""

    files: Mapping[str, str]
    secret: bool


@dataclass(frozen=True)
class Ask:
    """Who asks from which address, and the token that was shown, if any."""

    who: Identity
    address: str
    token: str = ""


@dataclass(frozen=True)
class Refusal:
    """An HTTP status, and why."""

    status: int
    text: str


@dataclass(frozen=True)
class Sources:
    """Where answers come from.

    `seed` reads and judges a node's seed (raises UserError); `version` is that of a channel of
    an image, None where that cannot be told; `releases` and `base` are addresses.
    """

    base: str
    releases: str
    seed: Callable[[str], Seed]
    version: Callable[[str, str], str | None]


@dataclass
class Desk:
    """The orders of one server; `inventory` changes when its file does."""

    inventory: Inventory
    store: Store
    tokens: Tokens
    sources: Sources
    now: Callable[[], float]
    peers: Peers = field(default_factory=Peers)
    _lasting: dict[str, float] = field(default_factory=dict)

    def order(self, ask: Ask) -> dict[str, object] | Refusal:
        """Return a machine's order (imgnode.install.order), or why there is none or not yet.

        A machine that is no node is remembered, and has nothing done to it.
        """
        found = self.inventory.find(ask.who)
        if found.name is None:
            return self._unknown(ask, found.others)
        name, record = found.name, self.store.node(found.name)
        for key in {ask.who.key, _key(ask)}:
            self.store.forget(key)
        if record.state == "done":
            return Refusal(NOT_NOW, f"{name} is installed (imgbuild orders again {name})")
        try:
            seed = self.sources.seed(name)
            refusal = self._refused(name, seed, ask)
        except UserError as error:
            refusal = Refusal(NOT_NOW, str(error))
        if refusal:
            # Whoever else says that it is this node does not get into the way of an installation.
            if record.state != "installing" or self.now() - record.seen > SILENT_S:
                self._remember(record, ask, "held", refusal.text)
            return refusal
        peers = self._peers(name)
        if isinstance(peers, str):
            self._remember(record, ask, "held", peers)
            return {"wait": peers}
        key = record.key or secrets.token_urlsafe(16)
        goes_on = record.state == "installing"
        started = record.started if goes_on else self.now()
        made = record.model_copy(update={"key": key, "started": started, "ended": 0.0})
        self._remember(made, ask, "installing" if goes_on else "ordered", "")
        return self._made(name, seed, key, peers)

    def report(self, name: str, key: str, said: Report) -> bool:
        """Take a report; False where nobody was ordered to send it."""
        record = self._ordered(name, key)
        if record is None:
            return False
        if record.state == "done":
            return True
        new = apply(record, said, self.now())
        if new.state == "done":
            self.tokens.spend(name)
        lasting = (new.phase, new.state) != (record.phase, record.state)
        lasting = lasting or self.now() - self._lasting.get(name, 0.0) >= _LASTING_S
        if lasting:
            self._lasting[name] = self.now()
        self.store.put(new, lasting=lasting)
        return True

    def shares(self, name: str, key: str, address: str) -> bool | None:
        """Take an installed node's word that others may fetch from it.

        Tell whether it is to stay for them; None where nobody was ordered to say so.
        """
        share = self.inventory.plan.server.share
        record = self._ordered(name, key)
        if share is None or record is None or record.state != "done":
            return None
        image, running = self._image(name), self._running(name)
        place = f"http://{address}:{share.port}"
        return self.peers.stays(name, image, place, running, self.now())

    def boots(self, who: Identity, address: str) -> bool:
        """Tell whether a machine that starts from the network gets the installer.

        One that is installed does not: its firmware goes on to the disk.
        """
        found = self.inventory.find(who)
        if found.name is None:
            return True
        record = self.store.node(found.name)
        if record.state == "done":
            return False
        if record.phase != "boot":
            told = {"phase": "boot", "seen": self.now(), "address": address}
            self.store.put(record.model_copy(update=told))
        return True

    def again(self, name: str) -> None:
        """Let a node be installed once more. Raises UserError for a name that is none."""
        self._check(name)
        who = self.store.node(name).who
        self.tokens.spend(name)
        self.store.put(Record(name=name, who=who))

    def token(self, name: str) -> str:
        """Return a new one-time token for a node. Raises UserError for a name that is none."""
        self._check(name)
        return self.tokens.make(name, self.now())

    def allow(self, name: str) -> Identity:
        """Let the machine that asked as this node have its seed, within an hour; return who it is.

        Raises UserError for a name that is none, and where no machine has asked.
        """
        self._check(name)
        record = self.store.node(name)
        if record.state != "held" or not record.who.words:
            hint = "start it from the network first; then it is held, and can be looked at"
            raise UserError(f"{name}: no machine is held as this node", hint=hint)
        self.tokens.grant(name, record.who, self.now())
        return record.who

    def _ordered(self, name: str, key: str) -> Record | None:
        """Return what is known of a node whose order has this key."""
        if name not in self.inventory.plan.nodes:
            return None
        record = self.store.node(name)
        known = record.key and hmac.compare_digest(record.key.encode(), key.encode())
        return record if known else None

    def _peers(self, name: str) -> tuple[str, ...] | str:
        """Return the neighbours that a node fetches from, or why it waits."""
        share = self.inventory.plan.server.share
        if share is None:
            return ()
        return self.peers.choose(share, name, self._image(name), self._running(name), self.now())

    def _image(self, name: str) -> Image:
        wanted = self.inventory.plan.wanted(name)
        return _image_id(wanted), wanted.channel

    def _running(self, name: str) -> list[str]:
        """Return the other nodes that are being installed, or are about to share."""
        now, sharing = self.now(), self.peers.sharing(self.now())
        found = []
        for one in self.inventory.plan.nodes:
            record = self.store.node(one)
            at_work = record.state in ("ordered", "installing") and now - record.seen <= SILENT_S
            settles = record.state == "done" and now - record.ended <= _SETTLES_S
            if one != name and (at_work or (settles and one not in sharing)):
                found.append(one)
        return found

    def _check(self, name: str) -> None:
        if name not in self.inventory.plan.nodes:
            raise UserError(f"{name}: is not in the inventory", hint="imgbuild orders list")

    def _unknown(self, ask: Ask, others: tuple[str, ...]) -> Refusal:
        said = ", ".join(others)
        why = f"does not fit {said} in all it says" if others else "is not in the inventory"
        now, key = self.now(), _key(ask)
        known = {one.name: one for one in self.store.waiting()}
        started = known[key].started if key in known else now
        made = Record(name=key, state="waiting", why=why, who=ask.who, address=ask.address)
        self.store.wait(made.model_copy(update={"started": started, "seen": now}))
        return Refusal(NOT_KNOWN, f"this machine {why}: nothing is done to it")

    def _refused(self, name: str, seed: Seed, ask: Ask) -> Refusal | None:
        wanted = self.inventory.plan.wanted(name)
        if wanted.version is not None:
            now_at = self.sources.version(_image_id(wanted), wanted.channel)
            if now_at != wanted.version:
                told = f"is at {now_at}" if now_at else "has no version that can be read"
                return Refusal(
                    NOT_NOW, f"channel {wanted.channel} {told}, {name} wants {wanted.version}"
                )
        own = self.inventory.plan.nodes[name].token
        if own if own is not None else seed.secret:
            why = self.tokens.judge(name, ask.token, ask.who, self.now())
            return Refusal(NOT_ALLOWED, f"{why} (imgbuild orders allow, or token)") if why else None
        return None

    def _remember(self, record: Record, ask: Ask, state: State, why: str) -> None:
        told: dict[str, object] = {"state": state, "why": why[:500], "address": ask.address}
        told |= {"who": ask.who if ask.who.words else record.who, "seen": self.now()}
        self.store.put(record.model_copy(update=told))

    def _made(self, name: str, seed: Seed, key: str, peers: Sequence[str]) -> dict[str, object]:
        wanted = self.inventory.plan.wanted(name)
        share = self.inventory.plan.server.share
        more = {"peers": list(peers), "share": share.port} if share else {}
        return {
            "releases": self.sources.releases,
            "image_id": _image_id(wanted),
            "channel": wanted.channel,
            "disk": wanted.disk,
            "wipe": wanted.wipe,
            "seed": dict(seed.files),
            "report": f"{self.sources.base}/progress/{name}/{key}",
            "then": wanted.then,
            **more,
        }


def _image_id(wanted: Wanted) -> str:
    return f"imgbuild-{wanted.profile}"


def _key(ask: Ask) -> str:
    """Return the file name of a machine that is no node."""
    return ask.who.key or "at-" + ask.address.replace(":", "-").replace(".", "-")

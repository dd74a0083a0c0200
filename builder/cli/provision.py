"""What `serve` and `orders` share: the plan, its seeds, and the channels of the releases."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.cli.flashseed import read_seed
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.process import Runner
from builder.release.repository import Repository, read_channel
from builder.resolve.yamlfile import read_mapping
from builder.serve import net
from builder.serve.desk import Desk, Seed, Sources
from builder.serve.inventory import Inventory
from builder.serve.place import Place
from builder.serve.records import Store
from builder.serve.settings import Plan, parse_plan
from builder.serve.tokens import Tokens
from imgnode.support.redact import Redactor

_USER = "www-data"  # Debian's own for web servers


@dataclass
class Files:
    """The provisioning file, and what lies beside it."""

    context: Context
    plan: Path
    site: str
    _seen: int = field(default=0)

    def changed(self) -> bool:
        """Tell whether the plan has another time than when it was last asked."""
        try:
            now = self.plan.stat().st_mtime_ns
        except FileNotFoundError:  # an editor is about to put it back
            return False
        before, self._seen = self._seen, now
        return before not in (0, now)

    def seed(self, plan: Plan, name: str) -> Seed:
        """Return a node's seed, judged for its profile. Raises UserError with what is wrong."""
        node, folder = plan.nodes[name], self.plan.parent
        if node.seed is None:
            return Seed({}, secret=False)
        network = folder / node.network if node.network else None
        profile = plan.wanted(name).profile or ""
        read, _ = read_seed(self.context.project, folder / node.seed, network, profile, self.site)
        files = {key: _text(value) for key, value in read.items()}
        return Seed(files, secret=has_secrets(files))


def has_secrets(files: Mapping[str, str]) -> bool:
    """Tell whether something in a seed has to be kept from others, by its name or its look."""
    hides = Redactor()
    return any(hides.text(text) != text for text in files.values())


def load_plan(files: Files) -> Plan:
    """Return the plan as it is now. Raises ConfigError with all that is wrong in it."""
    files.changed()  # what comes later is a change
    values = read_mapping(files.context.project, files.plan)
    return parse_plan(files.plan.name, values)


def place_of(runner: Runner, plan: Plan, state: Path, folder: Path) -> Place:
    """Return where the server works. Raises UserError where its network is not as it says."""
    server = plan.server
    address, network = server.address, None
    if server.interface is not None:
        known = net.addresses(runner, server.interface)
        mine = next((one for one in known if address in (None, str(one.ip))), None)
        if mine is None:
            hint = f"it has {', '.join(str(one.ip) for one in known)}"
            raise UserError(f"{server.interface}: has no address {address}", hint=hint)
        address = str(mine.ip)
        network = mine.network if server.dhcp != "off" else None
    if network is not None:
        _check_range(server.range, network)
    root = os.geteuid() == 0
    releases = (folder / server.releases).resolve() if server.releases_are_here else None
    for own in (folder.resolve(), state.resolve()):
        if releases in (own, *own.parents):
            hint = "seeds and tokens would be handed out: give releases a folder of their own"
            raise UserError(f"server.releases: {releases} holds {own}", hint=hint)
    if network is not None and not root:
        raise UserError("DHCP needs root", hint="run it as root, or set dhcp: off")
    return Place(
        server=server,
        state=state,
        address=address or "",
        network=network,
        installer=(folder / server.installer).resolve(),
        releases=releases,
        user=_USER if root else None,
    )


def _check_range(text: str | None, network: ipaddress.IPv4Network) -> None:
    for one in (text or "").split("-") if text else ():
        if ipaddress.IPv4Address(one) not in network:
            hint = "range holds addresses of the interface's own network"
            raise UserError(f"server.range: {one} is not in {network}", hint=hint)


def open_desk(files: Files, plan: Plan, store: Store, place: Place) -> Desk:
    """Return the desk that answers by a plan."""
    repository = Repository(place.releases) if place.releases else None

    def version(image_id: str, channel: str) -> str | None:
        if repository is None:
            return None
        found = read_channel(repository.channel(image_id, channel))
        return found.version if found else None

    def seed(name: str) -> Seed:
        return files.seed(desk.inventory.plan, name)

    sources = Sources(place.base, place.releases_address, seed, version)
    tokens = Tokens(store.folder / "tokens")
    desk = Desk(Inventory.of(plan), store, tokens, sources, time.time)
    return desk  # noqa: RET504 - `seed` looks into it: plans change


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()

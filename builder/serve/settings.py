"""The provisioning file: the server's network, and which machine becomes what."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from builder.core.errors import ConfigError
from builder.model.base import Closed, Name
from builder.model.release import ChannelName, Plain
from builder.serve.identity import Mac, Serial, Uuid


def _address(value: str) -> str:
    return str(ipaddress.IPv4Address(value))


def _range(value: str) -> str:
    first, _, last = (part.strip() for part in value.partition("-"))
    if ipaddress.IPv4Address(first) > ipaddress.IPv4Address(last):
        raise ValueError("must be FIRST-LAST, the smaller address first")
    return f"{first}-{last}"


Address = Annotated[str, AfterValidator(_address)]
Range = Annotated[str, AfterValidator(_range)]
Port = Annotated[int, Field(ge=1, le=65535)]
Device = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$")]
PathOrAddress = Annotated[str, Field(pattern=r"^[!-~ ]+$", max_length=1024)]
Rule = Annotated[str, Field(pattern=r"^[!-~]+$", max_length=200)]
HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Share(Closed):
    """Machines that are installed serve their neighbours before they leave the installer."""

    port: Port = Field(7411, description="where they serve each other")
    from_server: int = Field(2, ge=1, description="how many fetch from the server at once")
    from_node: int = Field(4, ge=1, description="how many fetch from one that shares")


class Server(Closed):
    """Where the server is, and what it hands out."""

    interface: Device | None = Field(None, description="network card that faces the machines")
    address: Address | None = Field(None, description="default: the interface's first one")
    port: Port = 80
    dhcp: Literal["full", "proxy", "off"] = Field(
        "proxy", description="full: the only DHCP server here; proxy: beside another one"
    )
    range: Range | None = Field(None, description="FIRST-LAST, for dhcp: full")
    gateway: Address | None = None
    dns: tuple[Address, ...] = ()
    share: Share | None = Field(None, description="{}: machines fetch from each other")
    releases: PathOrAddress = Field(description="folder of a release repository, or its address")
    installer: PathOrAddress = Field(description="the installer, a signed UKI (.efi)")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.dhcp == "full" and self.range is None:
            raise ValueError("dhcp: full needs range: FIRST-LAST")
        if self.dhcp != "full" and (self.range or self.gateway or self.dns):
            raise ValueError("range, gateway and dns belong to dhcp: full")
        if self.interface is None and (self.dhcp != "off" or self.address is None):
            raise ValueError("interface is needed (or dhcp: off and an address)")
        return self

    @property
    def releases_are_here(self) -> bool:
        """Whether this server hands out the releases itself."""
        return not self.releases.startswith(("http://", "https://"))


class Wanted(Closed):
    """What machines become, unless a node says otherwise."""

    profile: Name | None = None
    channel: ChannelName = "stable"
    version: Plain | None = Field(None, description="only while the channel is at this version")
    disk: Rule = "largest-nvme"
    wipe: bool = False
    then: Literal["reboot", "poweroff", "stay"] = "reboot"


class Node(Closed):
    """One machine: what it is known by, and what it becomes; None: as `defaults` says."""

    mac: Mac | tuple[Mac, ...] = ()
    serial: Serial | None = None
    uuid: Uuid | None = None
    profile: Name | None = None
    channel: ChannelName | None = None
    version: Plain | None = None
    disk: Rule | None = None
    wipe: bool | None = None
    then: Literal["reboot", "poweroff", "stay"] | None = None
    seed: str | None = Field(None, description="its cloud-config file, beside this one")
    network: str | None = Field(None, description="its network-config file")
    token: bool | None = Field(None, description="needs a one-time token; default: as seed has it")

    @property
    def macs(self) -> tuple[str, ...]:
        """Its MACs, however many were given."""
        return (self.mac,) if isinstance(self.mac, str) else self.mac

    @property
    def words(self) -> tuple[str, ...]:
        """Everything that it can be known by, as Identity.words has it."""
        uuid = (f"uuid {self.uuid}",) if self.uuid else ()
        serial = (f"serial {self.serial}",) if self.serial else ()
        return (*uuid, *serial, *(f"mac {one}" for one in self.macs))


class Plan(Closed):
    """The whole file."""

    server: Server
    defaults: Wanted = Wanted()
    nodes: dict[HostName, Node] = Field(default_factory=dict)

    def wanted(self, name: str) -> Wanted:
        """Return what a node becomes, its own words before the defaults."""
        own = self.nodes[name].model_dump(include=set(Wanted.model_fields), exclude_none=True)
        return self.defaults.model_copy(update=own)


def parse_plan(file: str, values: Mapping[str, object]) -> Plan:
    """Return what a provisioning file says. Raises ConfigError with all that is wrong in it."""
    try:
        plan = Plan.model_validate(_tuples(values), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise ConfigError(list(dict.fromkeys(_line(file, one) for one in found))) from None
    if problems := [f"{file}: {one}" for one in _problems(plan)]:
        raise ConfigError(problems)
    return plan


def _problems(plan: Plan) -> list[str]:
    owners: dict[str, str] = {}
    found = []
    for name, node in plan.nodes.items():
        if not node.words:
            found.append(f"nodes.{name}: fits no machine (hint: give mac, serial or uuid)")
        if plan.wanted(name).profile is None:
            found.append(f"nodes.{name}: has no profile (hint: here, or in defaults)")
        for word in node.words:
            if word in owners:
                found.append(f"nodes.{name}: {word} is {owners[word]}'s, too (hint: remove one)")
            owners.setdefault(word, name)
    return found


def _tuples(value: object) -> object:
    """Return the value with tuples for lists, as strict validation wants them."""
    if isinstance(value, Mapping):
        return {key: _tuples(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_tuples(one) for one in value)
    return value


def _line(file: str, error: Any) -> str:  # noqa: ANN401 - pydantic's own kind of map
    where = ".".join(str(one) for one in error["loc"] if "[" not in str(one))
    fact = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        fact = "unknown key (hint: docs/provisioning.md has all of them)"
    return f"{file}: {where}: {fact}" if where else f"{file}: {fact}"

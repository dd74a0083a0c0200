"""Where a node is: the keys of `config/sites/*.yaml`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from builder.model.base import Closed, Line, Name, PackageName, Word
from builder.model.container import Source
from builder.model.driver import DriverBranch

ENROLMENT = ("PK.auth", "KEK.auth", "db.auth")  # signed lists of keys, as firmware takes them
FLAT = "/"  # the suite of an archive without dists/ (sources.list(5))
Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
PackageGlob = Annotated[str, Field(pattern=r"^[a-z0-9*?][a-z0-9+.*?-]*$")]
DebianVersion = Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+:~-]*$")]
FilePath = Annotated[str, Field(pattern=r"^[^\s][^\r\n]*$")]
HttpAddress = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$")]
_ANYWHERE = ("0.0.0.0/0", "::/0")
MailAddress = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+$")]
SshKey = Annotated[
    str,
    Field(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)"
        r"|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
        r" AAAA[A-Za-z0-9+/]+={0,3}( [^\r\n]*)?$"
    ),
]


def _listen(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError("must be an IP address, such as 0.0.0.0") from None


def _peer(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError("must be a network without host bits, such as 10.1.0.0/24") from None


class Archive(Closed):
    """One signed APT repository."""

    uri: Annotated[str, Field(pattern=r"^(https?|file|copy)://\S+$|^host:[a-z0-9-]+$")] = Field(
        description="base address, or host:SUITE: the mirror the build host's own APT uses for it"
    )
    suites: tuple[Word, ...] = Field(
        min_length=1, description="suites such as bookworm; [/] for a flat archive"
    )
    components: tuple[Word, ...] = Field(
        ("main",), description="components such as main; [] for a flat archive, which has none"
    )
    keyring: str = Field(
        description="file of signing keys: absolute, or beside the site file, "
        "or a name in /usr/share/keyrings"
    )
    fingerprints: tuple[Fingerprint, ...] = Field(
        (), description="if given, only these keys of the keyring and their subkeys are accepted"
    )
    only: tuple[PackageGlob, ...] = Field(
        (),
        description="names or shell globs of the packages that may come from here, such as "
        "docker-ce*; none given: every package may",
    )
    check_valid_until: bool = Field(
        True, description="false for snapshots, whose signatures have run out"
    )

    @model_validator(mode="after")
    def _flat_or_not(self) -> Archive:
        flat = [suite for suite in self.suites if suite.endswith("/")]
        if flat and self.suites != (FLAT,):
            raise ValueError("has a flat suite, which can only be / and the only one")
        if flat and self.components:
            raise ValueError("is flat (suite /): it needs components: []")
        if not flat and not self.components:
            raise ValueError("has no components, which only a flat archive (suite /) may")
        return self


class Pin(Closed):
    """An APT preference: which archive wins for which packages (apt_preferences(5))."""

    packages: Line = Field(description="package names, globs or src:NAME, separated by spaces")
    release: Line | None = Field(
        None,
        description="release expression such as n=bookworm-backports",
        examples=["n=bookworm"],
    )
    version: Word | None = Field(
        None, description="instead of a release: a version or a glob", examples=["580.*"]
    )
    priority: Annotated[int, Field(ge=-1, le=1001)] = 990

    @model_validator(mode="after")
    def _one_of_two(self) -> Pin:
        if (self.release is None) == (self.version is None):
            raise ValueError("must have either a release or a version")
        return self


class Proxy(Closed):
    """Proxies for fetching packages."""

    http: str | None = Field(None, description="proxy for http:// addresses")
    https: str | None = Field(None, description="proxy for https:// addresses")


class Alerts(Closed):
    """Who is told when a node needs a person."""

    receiver: HttpAddress | None = Field(
        None, description="address of an Alertmanager; nodes post to ADDRESS/api/v2/alerts"
    )
    mail: MailAddress | None = Field(
        None, description="address for mail, where the image has a sendmail"
    )


class Wheels(Closed):
    """Where Python wheels come from; neither: as the build host's own pip is set up."""

    index: str | None = Field(None, description="address of the package index (PEP 503)")
    extra_indexes: tuple[str, ...] = Field((), description="further indexes, such as PyTorch's")


class GpuSource(Closed):
    """How the site's nodes get their driver, and how GPUs reach the container."""

    driver: Name = Field("debian", description="recipe in image/drivers/, by name")
    branch: DriverBranch | None = Field(
        None, description="driver branch that the site has in the place of the profile's"
    )
    runtime: Literal["devices", "nvidia"] = Field(
        "devices",
        description="devices: device nodes and the image's own driver libraries; nvidia: the "
        "nvidia runtime of NVIDIA's container toolkit",
    )


class ModuleKey(Closed):
    """A key pair that signs kernel modules, as files of the build host."""

    key: FilePath = Field(description="private key (PEM); absolute, or beside the site file")
    certificate: FilePath = Field(description="its certificate (PEM or DER); as above")


class SecureBoot(Closed):
    """Signs what the firmware starts, boot loader and kernel image, by Authenticode."""

    key: FilePath = Field(
        description="private key of db: file (PEM), absolute or beside the site file; or a "
        "pkcs11: address"
    )
    certificate: FilePath = Field(description="its certificate (PEM); as above")
    enrol: FilePath | None = Field(
        None,
        description="folder with PK.auth, KEK.auth and db.auth, which go onto the ESP for "
        "systemd-boot to enrol; none: keys come into the firmware by other ways",
    )
    enrolment: Literal["manual", "if-safe", "force"] = Field(
        "manual",
        description="when systemd-boot enrols them, in firmware that is in setup mode: from its "
        "menu; by itself in virtual machines; by itself everywhere (loader.conf(5))",
    )


class PcrKey(Closed):
    """Signs what a TPM will have measured of the site's kernel images."""

    key: FilePath = Field(
        description="private key (RSA-2048): file (PEM), absolute or beside the site file; or a "
        "pkcs11: address"
    )
    public_key: FilePath = Field(description="its public key (PEM); as above")


class ReleaseKeys(Closed):
    """Public keys whose releases the site's nodes install."""

    keyring: str = Field(
        description="file of public keys: absolute, or beside the site file",
        examples=["release.gpg"],
    )
    fingerprints: tuple[Fingerprint, ...] = Field(
        (), description="if given, the file must hold exactly these keys"
    )


class Updates(Closed):
    """How nodes take new versions by themselves (`imgnode-update.timer`)."""

    channel: Name = Field("stable", description="channel of the release server")
    calendar: Line = Field(
        "03:00", description="when nodes look for one (systemd.time(7)), in their own time zone"
    )
    jitter: Line = Field("2h", description="spread of that moment over nodes", examples=["30min"])
    apply: Literal["check", "stage", "write", "reboot"] = Field(
        "stage",
        description="how far they go by themselves: only look; fetch and check it all; write it "
        "into the other slot; drain the server and reboot as well",
    )


class Maintenance(Closed):
    """How nodes tidy themselves up (`imgnode-cleanup.timer`)."""

    calendar: Line = Field(
        "04:30", description="when (systemd.time(7)), in the nodes' own time zone"
    )
    jitter: Line = Field("1h", description="spread of that moment over nodes", examples=["30min"])
    models_keep_days: Annotated[int, Field(ge=0, le=3650)] | None = Field(
        30,
        description="days after which a fetched model that no config names goes; none: only where "
        "space is short",
    )
    var_min_free_percent: Annotated[int, Field(ge=0, le=90)] = Field(
        10, description="share of /var below which unused models and old journal go at once"
    )


class Firewall(Closed):
    """Who may open connections to the site's nodes; all else is dropped (overlays/security)."""

    ssh_from: tuple[str, ...] = Field(
        _ANYWHERE,
        description="networks that may reach SSH, by IPv4 or IPv6; none: nobody",
        examples=[["10.0.0.0/8"]],
    )
    serve_from: tuple[str, ...] = Field(
        _ANYWHERE,
        description="networks that may reach the server's port; none: the node alone",
        examples=[["10.20.0.0/16", "fd00:20::/32"]],
    )

    @field_validator("ssh_from", "serve_from")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what is no network; join those that overlap, which nft(8) would refuse."""
        found = [_network(value) for value in values]
        four = collapse_addresses(one for one in found if isinstance(one, IPv4Network))
        six = collapse_addresses(one for one in found if isinstance(one, IPv6Network))
        return (*map(str, four), *map(str, six))


def _network(value: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error} (a network is like 10.0.0.0/8 or fd00::/8)") from None


class Backups(Closed):
    """When nodes back up their state (`imgnode-backup.timer`), and try what they kept."""

    calendar: Line = Field(
        "01:00", description="when (systemd.time(7)), in the node's own time zone"
    )
    jitter: Line = Field("2h", description="spread of that moment over nodes", examples=["30min"])
    verify: Line = Field(
        "Sun 05:00", description="when the latest backup is unpacked and compared; same jitter"
    )


class Monitoring(Closed):
    """Who may ask a node's exporters; they are there where the profile has overlay monitoring."""

    node_port: ClassVar[int] = 9100
    imgnode_port: ClassVar[int] = 9101

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        "127.0.0.1",
        description="address that the exporters listen on; 0.0.0.0 or '::': on every one",
        examples=["0.0.0.0", "::"],  # noqa: S104 - binds nothing here
    )
    peers: tuple[Annotated[str, AfterValidator(_peer)], ...] = Field(
        (),
        description="networks that may ask them; none: only the node itself",
        examples=[["10.1.0.0/24"]],
    )

    @property
    def listen_url(self) -> str:
        """The address as it stands before a port."""
        return f"[{self.listen}]" if ":" in self.listen else self.listen


class Site(Closed):
    """Where a node is: archives and their keys, proxies, time servers, alert receiver."""

    description: Line = Field(description="one line for people")
    archives: tuple[Archive, ...] = Field(min_length=1, description="at least one APT repository")
    pins: tuple[Pin, ...] = Field((), description="APT preferences between the archives")
    minimum: dict[PackageName, DebianVersion] = Field(
        default_factory=dict,
        description="least version of packages: a lock with an older one is refused",
    )
    proxy: Proxy = Proxy()
    ntp: tuple[Word, ...] = Field((), description="time servers; none: the image's default pool")
    ssh_authorized_keys: tuple[SshKey, ...] = Field(
        (),
        description="public keys that every node of the site admits as admin, whatever its seed",
    )
    ssh_operator_keys: tuple[SshKey, ...] = Field(
        (), description="public keys that log in as operator, who may do a short list of things"
    )
    ssh_monitoring_keys: tuple[SshKey, ...] = Field(
        (), description="public keys that get `imgnode status --json` and nothing else"
    )
    firewall: Firewall = Firewall()
    wheels: Wheels = Wheels()
    releases: HttpAddress | None = Field(
        None, description="release server; nodes fetch missing layers below ADDRESS/layers/"
    )
    release_keys: tuple[ReleaseKeys, ...] = Field(
        (), description="whose releases nodes install; part of the image's root"
    )
    models: HttpAddress | None = Field(
        None,
        description="mirror of models, laid out as Hugging Face serves them; none: nodes fetch no "
        "models",
    )
    alerts: Alerts = Alerts()
    updates: Updates = Updates()
    maintenance: Maintenance = Maintenance()
    backups: Backups = Backups()
    monitoring: Monitoring = Monitoring()
    gpu: GpuSource = GpuSource()
    module_key: ModuleKey | None = Field(
        None, description="signs the modules that are built here; none: they are not signed"
    )
    secure_boot: SecureBoot | None = Field(
        None, description="signs boot loader and kernel image; none: they are not signed"
    )
    pcr_key: PcrKey | None = Field(
        None,
        description="signs measurements of the kernel image, by which a TPM opens what is sealed "
        "to it; none: nothing is sealed by signatures",
    )
    roles: dict[Name, Name] = Field(
        default_factory=dict,
        description="package lists that stand in for those that a profile names, such as "
        "container: container-vendor",
    )
    containers: dict[Source, Source] = Field(
        default_factory=dict,
        description="container images that stand in for those that a profile names",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave these out where they are not set: such images keep their names and bytes."""
        values: dict[str, Any] = handler(self)
        for name in ("secure_boot", "pcr_key"):
            if values.get(name, self) is None:
                del values[name]
        return values

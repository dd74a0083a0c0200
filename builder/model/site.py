"""Where a node is: the keys of `config/sites/*.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.model.base import Closed, Line, Name, Word
from builder.model.container import Source

Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
HttpAddress = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$")]
SshKey = Annotated[
    str,
    Field(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)"
        r"|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
        r" AAAA[A-Za-z0-9+/]+={0,3}( [^\r\n]*)?$"
    ),
]


class Archive(Closed):
    """One signed APT repository."""

    uri: Annotated[str, Field(pattern=r"^(https?|file|copy)://|^host:[a-z0-9-]+$")] = Field(
        description="base address, or host:SUITE: the mirror the build host's own APT uses for it"
    )
    suites: tuple[Word, ...] = Field(min_length=1, description="suites such as bookworm")
    components: tuple[Word, ...] = Field(("main",), description="components such as main")
    keyring: str = Field(
        description="file of signing keys: absolute, or beside the site file, "
        "or a name in /usr/share/keyrings"
    )
    fingerprints: tuple[Fingerprint, ...] = Field(
        (), description="if given, only these keys of the keyring are accepted"
    )
    check_valid_until: bool = Field(
        True, description="false for snapshots, whose signatures have run out"
    )


class Pin(Closed):
    """An APT preference: which archive wins for which packages (apt_preferences(5))."""

    packages: Line = Field(description="package names, globs or src:NAME, separated by spaces")
    release: Line = Field(
        description="release expression such as n=bookworm-backports", examples=["n=bookworm"]
    )
    priority: Annotated[int, Field(ge=-1, le=1001)] = 990


class Proxy(Closed):
    """Proxies for fetching packages."""

    http: str | None = Field(None, description="proxy for http:// addresses")
    https: str | None = Field(None, description="proxy for https:// addresses")


class Alerts(Closed):
    """Who is told when a node needs a person."""

    receiver: str | None = Field(None, description="webhook address (Alertmanager v2 format)")


class Wheels(Closed):
    """Where Python wheels come from; neither: as the build host's own pip is set up."""

    index: str | None = Field(None, description="address of the package index (PEP 503)")
    extra_indexes: tuple[str, ...] = Field((), description="further indexes, such as PyTorch's")


class GpuSource(Closed):
    """How the site's nodes get their driver, and how GPUs reach the container."""

    driver: Name = Field("debian", description="recipe in image/drivers/, by name")
    runtime: Literal["devices", "nvidia"] = Field(
        "devices",
        description="devices: device nodes and the image's own driver libraries; nvidia: the "
        "nvidia runtime of NVIDIA's container toolkit",
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


class Site(Closed):
    """Where a node is: archives and their keys, proxies, time servers, alert receiver."""

    description: Line = Field(description="one line for people")
    archives: tuple[Archive, ...] = Field(min_length=1, description="at least one APT repository")
    pins: tuple[Pin, ...] = Field((), description="APT preferences between the archives")
    proxy: Proxy = Proxy()
    ntp: tuple[Word, ...] = Field((), description="time servers; none: the image's default pool")
    ssh_authorized_keys: tuple[SshKey, ...] = Field(
        (),
        description="public keys that every node of the site admits as admin, whatever its seed",
    )
    wheels: Wheels = Wheels()
    releases: HttpAddress | None = Field(
        None, description="release server; nodes fetch missing layers below ADDRESS/layers/"
    )
    models: HttpAddress | None = Field(
        None,
        description="mirror of models, laid out as Hugging Face serves them; none: nodes fetch no "
        "models",
    )
    alerts: Alerts = Alerts()
    updates: Updates = Updates()
    gpu: GpuSource = GpuSource()
    roles: dict[Name, Name] = Field(
        default_factory=dict,
        description="package lists that stand in for those that a profile names, such as "
        "container: container-vendor",
    )
    containers: dict[Source, Source] = Field(
        default_factory=dict,
        description="container images that stand in for those that a profile names",
    )

"""Where the server works: its addresses, and the files below its state folder."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from builder.serve.settings import Server

LOADER, INSTALLER = "snponly.efi", "installer.efi"


@dataclass(frozen=True)
class Place:
    """What the generated configurations are made of.

    `user` is whom nginx works as, None to stay who we are (not root); `network` is that of the
    interface, None without DHCP; `releases` is None where they are somewhere else.
    """

    server: Server
    state: Path
    address: str
    network: ipaddress.IPv4Network | None
    installer: Path
    releases: Path | None
    user: str | None

    @property
    def base(self) -> str:
        """The server's address for machines."""
        port = "" if self.server.port == 80 else f":{self.server.port}"  # noqa: PLR2004 - HTTP
        return f"http://{self.address}{port}"

    @property
    def releases_address(self) -> str:
        """Where machines find the releases."""
        return f"{self.base}/releases" if self.releases else self.server.releases.rstrip("/")

    @property
    def run(self) -> Path:
        """Generated configurations, logs, process numbers, the socket."""
        return self.state / "run"

    @property
    def tftp(self) -> Path:
        """What dnsmasq hands out by TFTP."""
        return self.state / "tftp"

    @property
    def socket(self) -> Path:
        """Where nginx reaches the application."""
        return self.run / "app.sock"

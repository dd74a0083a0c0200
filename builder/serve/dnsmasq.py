"""The configuration of dnsmasq: DHCP and TFTP, no DNS."""

from __future__ import annotations

from builder.serve.place import LOADER, Place

# Client architectures (RFC 4578 and IANA): UEFI on x86-64 by PXE (7 and 9), and by HTTP.
_PXE, _HTTP = (7, 9), 16
_LEASE = "1h"
_HEAD = """\
# Made by `imgbuild serve`: changes are lost.
port=0
interface={interface}
bind-interfaces
except-interface=lo
user=dnsmasq
pid-file={run}/dnsmasq.pid
dhcp-leasefile={run}/leases
log-facility={run}/dnsmasq.log
log-dhcp
enable-tftp={interface}
tftp-root={tftp}
dhcp-userclass=set:ipxe,iPXE
dhcp-match=set:http,option:client-arch,{http}
"""
_FULL = """\
dhcp-range={first},{last},{mask},{lease}
dhcp-authoritative
dhcp-option-force=tag:http,option:vendor-class,HTTPClient
dhcp-boot=tag:http,{base}/boot/installer.efi
dhcp-boot=tag:ipxe,{base}/boot/boot.ipxe
dhcp-boot=tag:efi,tag:!ipxe,{loader},,{address}
"""
# BC_EFI stands beside X86-64_EFI: firmwares name themselves by either (7 or 9).
_PROXY = """\
dhcp-range={network},proxy,{mask}
dhcp-ignore=tag:http
dhcp-boot=tag:ipxe,{base}/boot/boot.ipxe
pxe-service=tag:!ipxe,X86-64_EFI,imgbuild,{loader},{address}
pxe-service=tag:!ipxe,BC_EFI,imgbuild,{loader},{address}
"""


def dnsmasq(place: Place) -> str:
    """Return the configuration for what the server's `dhcp` says; never called for "off"."""
    server, network = place.server, place.network
    if network is None:
        raise ValueError("no network: dhcp is off")
    words = {
        "interface": server.interface,
        "run": place.run,
        "tftp": place.tftp,
        "http": _HTTP,
        "mask": network.netmask,
        "network": network.network_address,
        "lease": _LEASE,
        "base": place.base,
        "loader": LOADER,
        "address": place.address,
    }
    text = _HEAD.format(**words)
    text += "".join(f"dhcp-match=set:efi,option:client-arch,{one}\n" for one in _PXE)
    if server.dhcp == "proxy":
        return text + _PROXY.format(**words)
    first, _, last = (server.range or "").partition("-")
    text += _FULL.format(first=first, last=last, **words)
    router = server.gateway or ""  # an option without a value is not sent at all
    text += f"dhcp-option=option:router{',' if router else ''}{router}\n"
    text += f"dhcp-option=option:dns-server{''.join(f',{one}' for one in server.dns)}\n"
    return text

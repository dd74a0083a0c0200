"""The scripts that iPXE is led through, on firmware that cannot boot by HTTP itself.

They end with `exit 1`: after a plain `exit` UEFI firmware takes the boot for a success, and opens
its menu; after an error it goes on to the next one.
"""

from __future__ import annotations

# The first script has iPXE say who it is; dnsmasq cannot put that into an address.
_WHO = "mac=${netX/mac:hexhyp}&uuid=${uuid}&serial=${serial:uristring}"


def first(base: str) -> str:
    """Return the script that asks for the machine's own."""
    return f"#!ipxe\nchain {base}/boot/machine.ipxe?{_WHO} || exit 1\n"


def install(base: str) -> str:
    """Return the script that starts the installer.

    Without Secure Boot iPXE passes a command line to the UKI, which takes the place of the sealed
    one, and at least the image's name. A control character as the name is none for the UKI.
    """
    kernel = f"kernel --name ${{ctl:string}} {base}/boot/installer.efi || exit 1"
    return f"#!ipxe\nset ctl:hex 01\n{kernel}\nboot || exit 1\n"


def disk() -> str:
    """Return the script for a machine that is installed: the firmware goes on to its disk."""
    return "#!ipxe\nexit 1\n"

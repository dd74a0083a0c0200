"""`python3 -m imgnode.install`: installs by an order, from a server or from a stick.

`imgnode.order=http://…` on the kernel's command line leads to the order; without, it lies on the
medium that the installer was started from. What fails is told and tried again, for as long as the
machine is on: a server that is down, a disk that comes late, an order that is mended.
"""

from __future__ import annotations

import re
import sys
import time
import urllib.parse
from pathlib import Path

from imgnode import process
from imgnode.download import fetch_small
from imgnode.install import medium
from imgnode.install.consoles import tell
from imgnode.install.order import Order, Wait, parse_order
from imgnode.install.report import Identity, Reporter, read_identity
from imgnode.install.run import Installed, install
from imgnode.install.share import share
from imgnode.install.why import ORDER
from imgnode.update.refused import Refused

_ADDRESS = re.compile(r"(?:^|\s)imgnode\.order=(https?://[!-~]+)")
_MOST = 2 << 20
_PAUSE_S = 20
_COMMAND_S = 60
_ONLINE = "/lib/systemd/systemd-networkd-wait-online"
_ONLINE_S = 60


def read_order(root: Path = Path("/")) -> Order:
    """Return the order of this machine. Raises Refused when there is none that can be read.

    Raises Wait where the server has none for it yet.
    """
    found = _ADDRESS.search((root / "proc/cmdline").read_text())
    if found is None:
        return _carried(root)
    address = with_identity(found[1], read_identity(root))
    wait = [_ONLINE, "--any", f"--timeout={_ONLINE_S}"]
    process.run(wait, timeout_s=2 * _ONLINE_S)  # when it is not, fetching says so
    file = root / "run/imgnode/order.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    said = fetch_small(address, file, _MOST)
    if said:
        raise Refused(ORDER, f"{address}: {said}", "does the server know this machine?")
    try:
        return parse_order(file.read_text())
    except ValueError as error:
        raise Refused(ORDER, f"{address}: {error}", "mend it on the server") from None
    finally:
        file.unlink(missing_ok=True)  # seeds hold secrets


def with_identity(address: str, identity: Identity) -> str:
    """Return the address with what this machine is known by as its query."""
    known = [("serial", identity.serial), ("uuid", identity.uuid)]
    known += [("mac", mac) for mac in identity.macs]
    query = urllib.parse.urlencode([(key, value) for key, value in known if value])
    return f"{address}{'&' if '?' in address else '?'}{query}" if query else address


def _carried(root: Path) -> Order:
    """Return the order of the medium; what it does not name lies there, too."""
    folder = medium.attach(root)
    file = folder / medium.ORDER_FILE
    try:
        return parse_order(file.read_text(), f"file://{folder.absolute()}/{medium.RELEASES}")
    except OSError as error:
        raise Refused(ORDER, f"{file}: {error.strerror}", "make the stick anew") from None
    except ValueError as error:
        raise Refused(ORDER, f"{file}: {error}", "make the stick anew") from None


def try_once(root: Path = Path("/")) -> Order | None:
    """Install once; return the order when it is done, None when it was not."""
    reporter = Reporter(None, read_identity(root), _say)
    try:
        order = read_order(root)
        reporter.address = order.report
        done = install(order, reporter, root)
    except Wait as error:
        _say(str(error))
        return None
    except Refused as error:
        reporter.end(error.kind, str(error))
        return None
    except OSError as error:
        reporter.end("system", str(error))
        return None
    reporter.end(text=done.version)
    if order.share and order.report:
        _share(done, order.share, reporter, root)
    return order


def _share(done: Installed, port: int, reporter: Reporter, root: Path) -> None:
    """Serve the neighbours as long as the server wants; what fails costs this machine nothing."""
    reporter.note("share: neighbours fetch from here, until the server says that none needs it")
    try:
        share(done, port, reporter.shares, root)
    except (Refused, OSError) as error:
        reporter.note(f"share: {error}")


def main(root: Path = Path("/")) -> int:
    """Try until it is done, then do what the order says last."""
    while (order := try_once(root)) is None:
        _say(f"next try in {_PAUSE_S} s")
        time.sleep(_PAUSE_S)
    if order.then == "stay":
        return 0
    process.run(["sync"], timeout_s=_COMMAND_S)
    return process.run(["systemctl", order.then], timeout_s=_COMMAND_S).rc


def _say(text: str) -> None:
    print(f"install: {text}", flush=True)  # to the journal
    tell(f"install: {text}")


if __name__ == "__main__":
    sys.exit(main())

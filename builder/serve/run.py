"""The whole server: its children, the application, the responder."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.core.process import Runner
from builder.serve import httpclient, net
from builder.serve.children import Child, end_leftover, keep
from builder.serve.desk import Desk
from builder.serve.dnsmasq import dnsmasq
from builder.serve.nginx import nginx
from builder.serve.place import INSTALLER, LOADER, Place
from builder.serve.web import App

_EVERY_S = 1.0
_GRACE_S = 2
_IPXE = Path("/usr/lib/ipxe") / LOADER


@dataclass(frozen=True)
class Watch:
    """What is told while the server runs: lines, and once a second that time has passed."""

    say: Callable[[str], None]
    tick: Callable[[], None]


@contextmanager
def owned(state: Path) -> Iterator[None]:
    """Keep a second server away from a state folder. Raises UserError where there is one."""
    with (state / "run" / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "one server for each folder: end that one, or name another with --state"
            raise UserError(f"{state}: another server works with it", hint=hint) from None
        yield


def prepare(place: Place) -> list[Child]:
    """Write configurations and what TFTP hands out; return the servers to start."""
    write_atomic(place.run / "nginx.conf", nginx(place))
    argv: tuple[str | Path, ...] = ("nginx", "-e", place.run / "nginx.log", "-c")
    argv = (*argv, place.run / "nginx.conf")
    log = place.run / "nginx.log"
    children = [Child("nginx", argv, place.run / "nginx.pid", log)]
    if place.network is not None:
        shutil.copyfile(_IPXE, place.tftp / LOADER)
        config = place.run / "dnsmasq.conf"
        write_atomic(config, dnsmasq(place))
        words = ("dnsmasq", "--keep-in-foreground", f"--conf-file={config}")
        log = place.run / "dnsmasq.log"
        children.append(Child("dnsmasq", words, place.run / "dnsmasq.pid", log))
    for child in children:
        end_leftover(child)
    return children


def need_files(place: Place) -> None:
    """Raise UserError for what is to be handed out and is not there, or not for nginx to read."""
    wanted = [(place.installer, "imgbuild flash --installer uses the same file")]
    if place.network is not None:
        wanted.append((_IPXE, "apt-get install ipxe"))
    for path, hint in wanted:
        if not path.is_file():
            raise UserError(f"{path}: there is no such file", hint=hint)
    if place.releases and not place.releases.is_dir():
        hint = "imgbuild release makes a repository"
        raise UserError(f"{place.releases}: there is no such folder", hint=hint)
    if place.user is not None:
        for path in (place.state, place.installer, *filter(None, [place.releases])):
            _check_readable(path, place.user)


def _check_readable(path: Path, user: str) -> None:
    """Raise UserError where somebody without rights of their own does not get to a path."""
    for one in (path, *path.parents):
        needed = 0o001 if one.is_dir() else 0o004
        if one.exists() and not one.stat().st_mode & needed:
            hint = f"chmod o+{'x' if one.is_dir() else 'r'} {one}, or choose another place"
            raise UserError(f"{one}: nginx, which works as {user}, does not get to it", hint=hint)


async def serve(
    runner: Runner, place: Place, desk: Desk, watch: Watch, children: list[Child]
) -> None:
    """Serve until cancelled. Raises UserError when a part does not stay up."""
    place.socket.unlink(missing_ok=True)
    app = App(desk, desk.store.admin_token(), net.neighbour).make()
    config = uvicorn.Config(
        app,
        uds=str(place.socket),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_S,
    )
    transport = await _respond(place)
    server = uvicorn.Server(config)
    parts = [asyncio.create_task(one) for one in (server.serve(), _ticks(watch))]
    parts += [asyncio.create_task(keep(runner, child, watch.say)) for child in children]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        server.should_exit = True
        runner.close()
        for part in parts[1:]:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        if transport is not None:
            transport.close()


async def _respond(place: Place) -> asyncio.BaseTransport | None:
    """Start to answer HTTP Boot beside another DHCP server."""
    if place.server.dhcp != "proxy" or place.server.interface is None:
        return None
    url = f"{place.base}/boot/{INSTALLER}"
    loop = asyncio.get_running_loop()
    try:
        made = httpclient.open_socket(place.server.interface)
    except OSError as error:
        hint = "does another DHCP server run on this host? it has UDP port 67 for itself"
        fact = f"{place.server.interface}: UDP port 67: {error.strerror}"
        raise UserError(fact, hint=hint) from None
    transport, _ = await loop.create_datagram_endpoint(
        lambda: httpclient.Responder(place.address, url), sock=made
    )
    return transport


async def _ticks(watch: Watch) -> None:
    while True:
        watch.tick()
        await asyncio.sleep(_EVERY_S)

"""`imgbuild flash`: an image onto a USB stick or a disk."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from builder.cli import options
from builder.cli.flashbar import bars
from builder.cli.flashseed import read_seed
from builder.cli.flashstick import Install, needs_installer, stick
from builder.cli.session import session
from builder.compare.manifest import newest_image
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.gpg import need_programs, public_keyring
from builder.flash.devices import Device, find_device, removable_devices
from builder.flash.job import Seed, flash, make_seed
from builder.flash.refuse import check_device, check_serial
from builder.flash.source import Source, find_source


@click.command("flash")
@click.argument("device", required=False, type=click.Path(path_type=Path))
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="folder of an image or of a released version; default: the newest below out/",
)
@click.option("--seed", type=click.Path(path_type=Path), help="cloud-config file of the node")
@click.option("--network", type=click.Path(path_type=Path), help="its network-config (netplan)")
@click.option(
    "--keyring",
    "keyrings",
    multiple=True,
    type=click.Path(path_type=Path),
    help="public keys; the release must be signed by one of them",
)
@click.option("--yes", is_flag=True, help="ask nothing; needs --serial")
@click.option("--serial", metavar="S", help="serial number of the disk; none: it has none")
@click.option("--erase", is_flag=True, help="write over data that imgbuild does not know")
@click.option("--no-verify", is_flag=True, help="do not read back what was written")
@click.option(
    "--installer",
    type=click.Path(path_type=Path),
    help="make a stick that installs to a machine's own disk: what imgbuild installer made",
)
@click.option("--disk", metavar="RULE", help="which one it takes; default: largest-nvme")
@click.option("--wipe", is_flag=True, help="it gives up what that disk holds")
@click.option(
    "--then", "end", type=click.Choice(["poweroff", "reboot"]), help="at its end; default: poweroff"
)
@click.option("--report", metavar="URL", help="where the installer posts its progress")
@click.option("--channel", metavar="NAME", help="default: any that names the version")
@click.option("--json", "as_json", is_flag=True, help="the list for machines")
@options.debug
def command(
    device: Path | None,
    image: Path | None,
    seed: Path | None,
    network: Path | None,
    keyrings: tuple[Path, ...],
    yes: bool,
    serial: str | None,
    erase: bool,
    no_verify: bool,
    installer: Path | None,
    disk: str | None,
    wipe: bool,
    end: str | None,
    report: str | None,
    channel: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Write an image to a USB stick or a disk, its seed into CIDATA, and read both back.

    Without DEVICE it lists the removable ones. Disks that are mounted, in use, too small or
    hold foreign data are refused.
    """
    with session(debug=debug, live=False) as context, context.cache.workspace("flash") as work:
        if device is None:
            _list(removable_devices(context.runner), as_json=as_json)
            return
        if network and seed is None:
            raise UserError("--network needs --seed", hint="imgbuild seed new writes an example")
        work.chmod(0o700)  # seeds hold secrets
        source: Source
        made = None
        if installer:
            install = Install(
                installer, disk or "largest-nvme", wipe, end or "poweroff", report, channel
            )
            found = find_device(context.runner, device)
            check_device(found, 0, erase=erase)
            folder = image or newest_image(context.project.out)
            source = stick(context, install, folder, keyrings, seed, network, work)
            check_device(found, source.least_bytes, erase=erase)
        else:
            needs_installer(disk=disk, wipe=wipe, then=end, report=report, channel=channel)
            source = _source(context, image, keyrings, work)
            found = find_device(context.runner, device)
            check_device(found, source.least_bytes, erase=erase)
            made = _seed(context, source, seed, network, work)
        _confirm(found, source, serial, yes=yes)
        _flash(context, found, source, made, verify=not no_verify)


def _source(context: Context, image: Path | None, keyrings: tuple[Path, ...], work: Path) -> Source:
    need_programs("gpgv", "zstd")
    folder = image or newest_image(context.project.out)
    keyring = work / "keyring.gpg" if keyrings else None
    if keyring:
        public_keyring(context.runner, keyrings, keyring)
    source = find_source(context.runner, folder, keyring)
    if source.file.suffix == ".zst" and keyring is None:
        text = f"{source.title}: nobody has checked its signature; --keyring does"
        context.emit(Note("warning", text))
    return source


def _seed(
    context: Context, source: Source, seed: Path | None, network: Path | None, work: Path
) -> Seed | None:
    if seed is None:
        text = "no --seed: the node comes up without a name, and opens to the site's keys alone"
        context.emit(Note("warning", text))
        return None
    manifest = source.manifest
    files, notes = read_seed(context.project, seed, network, manifest.profile, manifest.site)
    for text in notes:
        context.emit(Note("info", f"{seed}: {text}"))
    return make_seed(context.runner, source, files, work)


def _confirm(device: Device, source: Source, serial: str | None, *, yes: bool) -> None:
    """Have the name typed back, or the serial number named. Raises UserError."""
    if serial is not None or yes:
        check_serial(device, serial)
    if yes:
        return
    if not sys.stdin.isatty():
        hint = f"in scripts: --yes --serial {device.serial or 'none'}"
        raise UserError("nobody can be asked: this is no terminal", hint=hint)
    _show([device])
    print(f"{source.title} will be written over all of {device.path}.")
    said = click.prompt(f"Type {device.name} to go on", default="", show_default=False)
    if said.strip() != device.name:
        raise UserError(f"{said.strip()!r} is not {device.name}: nothing was written")


def _flash(
    context: Context, device: Device, source: Source, seed: Seed | None, *, verify: bool
) -> None:
    try:
        with bars() as shown:
            flash(context.runner, device.path, source, seed, shown.begin, verify=verify)
    except KeyboardInterrupt:
        fact = f"interrupted: {device.path} holds no image now"
        raise UserError(fact, hint="flash it again") from None
    told = ["verified" if verify else "NOT verified", *(["with its seed"] if seed else [])]
    context.emit(Note("info", f"{device.path}: {source.title}, {', '.join(told)}"))


def _list(devices: list[Device], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([{**asdict(one), "path": str(one.path)} for one in devices], indent=1))
    elif devices:
        _show(devices)
    else:
        print("no removable disk; others may be named: lsblk lists them")


def _show(devices: list[Device]) -> None:
    table = Table("device", "size", "model", "serial", "holds", "mounted", box=None)
    for one in devices:
        serial = one.serial or "none"
        mounts = " ".join(one.mounts)
        table.add_row(str(one.path), decimal(one.bytes), one.model, serial, one.contents, mounts)
    Console().print(table)

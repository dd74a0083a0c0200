"""`imgbuild installer`: the system that puts a release onto a machine's own disk."""

from __future__ import annotations

import re
from pathlib import Path

import click
from rich.filesize import decimal

from builder.cli import options
from builder.cli.lock import ensure_lock
from builder.cli.session import session
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.files import copy_sparse
from builder.pipeline import build_installer
from builder.resolve import resolve

_ADDRESS = re.compile(r"https?://[!-~]+")


@click.command("installer")
@options.profile
@options.site
@click.option("--out", type=click.Path(path_type=Path), help="default: out/installer-PROFILE.efi")
@click.option("--order", metavar="URL", help="where a machine asks what it shall become")
@click.option("--no-cache", is_flag=True, help="make every stage anew")
@click.option("--locked", is_flag=True, help="refuse to make a lock where there is none")
@options.as_json
@options.debug
def command(
    profile: str,
    site: str,
    out: Path | None,
    order: str | None,
    no_cache: bool,
    locked: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Build the installer of a profile: one EFI program that boots.

    It believes the site's release keys and no others. `imgbuild flash --installer` makes a
    stick of it; firmware can also load it over the network.
    """
    if order is not None and not _ADDRESS.fullmatch(order):
        raise UserError(f"--order {order!r}: is no address", hint="such as http://10.0.0.1/order")
    with session(debug=debug, as_json=as_json, no_cache=no_cache) as context:
        spec = resolve(context.project, profile, site)
        lock = ensure_lock(context, spec, locked=locked)
        made = build_installer(context, spec, lock, order)
        target = (out or context.project.out / f"installer-{profile}.efi").absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            copy_sparse(context.runner, made, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        if not as_json:
            context.emit(Note("info", f"installer of {profile}: {decimal(target.stat().st_size)}"))
    print(target)

"""What `imgbuild flash --installer` adds: the order, and the stick that carries it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.cli.flashseed import read_seed
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.gpg import need_programs, public_keyring
from builder.flash.carried import Carried, find_carried
from builder.flash.stick import Stick, check_installer, make_stick
from imgnode.install.disks import check_rule
from imgnode.install.order import parse_order
from imgnode.update.refused import Refused


@dataclass(frozen=True)
class Install:
    """What the stick shall do: `disk` is a rule (docs/install.md), `end` what comes last."""

    installer: Path
    disk: str
    wipe: bool
    end: str
    report: str | None
    channel: str | None


def needs_installer(**given: object) -> None:
    """Raise UserError when an option is given that means nothing on a node's own disk."""
    lonely = [name for name, value in given.items() if value]
    if lonely:
        fact = f"--{lonely[0]} means nothing without --installer"
        raise UserError(fact, hint="a stick that installs: docs/install.md")


def stick(
    context: Context,
    install: Install,
    folder: Path,
    keyrings: tuple[Path, ...],
    seed: Path | None,
    network: Path | None,
    work: Path,
) -> Stick:
    """Make the image of a stick that installs a released version. Raises UserError."""
    need_programs("gpgv", "mcopy", "mke2fs", "mkfs.vfat", "sfdisk")
    check_installer(install.installer)
    keyring = work / "keyring.gpg" if keyrings else None
    if keyring:
        public_keyring(context.runner, keyrings, keyring)
    carried = find_carried(context.runner, folder, install.channel, keyring, work)
    if keyring is None:
        text = f"{carried.title}: nobody has checked its signature; the installer will"
        context.emit(Note("warning", text))
    order = _order(context, install, carried, seed, network)
    return make_stick(context.runner, install.installer, carried, order, work)


def _order(
    context: Context, install: Install, carried: Carried, seed: Path | None, network: Path | None
) -> dict[str, Any]:
    order: dict[str, Any] = {
        "image_id": carried.manifest.image_id,
        "channel": carried.channel,
        "disk": install.disk,
        "wipe": install.wipe,
        "then": install.end,
        "seed": _seed(context, carried, seed, network),
    }
    order |= {"report": install.report} if install.report else {}
    try:
        check_rule(install.disk)
        parse_order(json.dumps(order), "carried")
    except (Refused, ValueError) as error:
        raise UserError(f"the order would be refused: {error}", hint="docs/install.md") from None
    return order


def _seed(
    context: Context, carried: Carried, seed: Path | None, network: Path | None
) -> dict[str, str]:
    if seed is None:
        text = "no --seed: the node comes up without a name, and opens to the site's keys alone"
        context.emit(Note("warning", text))
        return {}
    manifest = carried.manifest
    files, notes = read_seed(context.project, seed, network, manifest.profile, manifest.site)
    for text in notes:
        context.emit(Note("info", f"{seed}: {text}"))
    return {name: one if isinstance(one, str) else one.decode() for name, one in files.items()}

"""`imgbuild build`: from a profile to a bootable image."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.filesize import decimal

from builder.cli import options
from builder.cli.freshness import Freshness
from builder.cli.lock import ensure_lock
from builder.cli.session import session
from builder.cli.timelines import keep_timeline, watched
from builder.compare.parts import parts, total
from builder.containers.dockers import docker_warning
from builder.core.events import Note
from builder.model.artifacts import Manifest
from builder.pipeline import Built, build_image, identify
from builder.resolve import resolve


@click.command("build")
@options.profile
@options.site
@click.option("--out", type=click.Path(path_type=Path), help="folder for the image's files")
@click.option("--version", metavar="VERSION", help="default: day of the lock and a digest")
@click.option("--no-cache", is_flag=True, help="make every stage anew")
@click.option(
    "--without-container",
    is_flag=True,
    help="leave the container's layers out of disk.raw; nodes fetch them from the release server",
)
@click.option("--locked", is_flag=True, help="refuse to make a lock where there is none")
@options.as_json
@options.debug
def command(
    profile: str,
    site: str,
    out: Path | None,
    version: str | None,
    no_cache: bool,
    without_container: bool,
    locked: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Build a bootable A/B disk image, exactly as locked.

    The files go to out/PROFILE/VERSION/ or to the folder of --out; they appear
    together at the end, or not at all.
    """
    with session(debug=debug, as_json=as_json, no_cache=no_cache) as given:
        context, watch = watched(given)
        spec = resolve(context.project, profile, site)
        lock = ensure_lock(context, spec, locked=locked)
        if warning := docker_warning(lock):
            context.emit(Note("warning", warning))
        identity = identify(context, spec, lock, version)
        target = (out or context.project.out / profile / identity.version).absolute()
        freshness = Freshness(context, spec, lock)
        built = build_image(
            context, spec, lock, identity, target, carry_layers=not without_container
        )
        if watch.worked:
            keep_timeline(context, built.manifest, watch)
        for line in freshness.answer() if built.changed else ():
            context.emit(Note("info", f"newer packages are there: {line} (imgbuild lock)"))
        if as_json:
            print(json.dumps({"event": "Built", "out": str(target), "changed": built.changed}))
        else:
            context.emit(Note("info", _summary(built)))
    if not as_json:
        print(built.folder)


def _summary(built: Built) -> str:
    manifest = built.manifest
    state = "built" if built.changed else "unchanged"
    share = 100 * manifest.root_bytes / manifest.root_slot_bytes
    told = [
        f"{manifest.image_id} {manifest.version} {state}: root {decimal(manifest.root_bytes)} "
        f"({share:.0f} % of its slot), {len(manifest.packages)} packages, "
        f"kernel {manifest.kernel_release}",
        *([f"driver {manifest.driver.version}"] if manifest.driver else []),
        *_outside(manifest),
    ]
    return "; ".join(told)


def _outside(manifest: Manifest) -> list[str]:
    """Return a few words about the container, and about each model."""
    found = parts(manifest)
    image, told = manifest.payload.container, []
    if image is not None:
        layers = decimal(total(found, "layer"))
        name = f"{image.repository}:{image.tag}"
        told.append(f"container {name}, {len(image.layers)} layers, {layers}")
    told += [f"model {one.title}, {decimal(one.bytes)}" for one in found if one.kind == "model"]
    return told

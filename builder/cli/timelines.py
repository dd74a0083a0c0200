"""Keeps how long builds took, for reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.core.stopwatch import Stopwatch
from builder.model.artifacts import Manifest
from builder.model.timeline import Span, Timeline


def watched(context: Context) -> tuple[Context, Stopwatch]:
    """Return the same surroundings with a stopwatch in the way of their events."""
    watch = Stopwatch(context.emit)
    return replace(context, emit=watch, cache=replace(context.cache, emit=watch)), watch


def _file(context: Context, manifest: Manifest) -> Path:
    name = f"{manifest.image_id}_{manifest.version}.json"
    return context.cache.root / "timelines" / name


def keep_timeline(context: Context, manifest: Manifest, watch: Stopwatch) -> None:
    """Keep how long a build took, in the cache: an image's own files know nothing of time."""
    spans = [
        Span(name=name, start=start, seconds=took, note="cached" if how == "cached" else "")
        for name, start, took, how in sorted(watch.ended, key=lambda one: one[1])
    ]
    text = Timeline(spans=tuple(spans)).model_dump_json(indent=1)
    write_atomic(_file(context, manifest), f"{text}\n")


def read_timeline(context: Context, manifest: Manifest) -> Timeline | None:
    """Return how long the build of an image took on this host; None where that is not known."""
    path = _file(context, manifest)
    try:
        return Timeline.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(f"{path}: is damaged", hint="remove it: only reports read it") from None

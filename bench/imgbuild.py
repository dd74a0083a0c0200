"""Runs our own `imgbuild build`, as a user would, with a cache of the bench's own."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.place import PROFILE, SITE, Place, say
from bench.stopwatch import Measured, measure
from builder.core.errors import UserError
from builder.core.files import remove_tree

_STAMP = "overlays/base/usr/share/bench/stamp"
# What a build reads; the lock lies in config/.
_ROOMS = ("config", "image", "imgnode", "overlays", "units")


@dataclass(frozen=True)
class Imgbuild:
    """The measured side that is ours."""

    place: Place

    @property
    def disk(self) -> Path:
        """The disk image that the last build made."""
        return self.place.out / "disk.raw"

    def prepare(self) -> None:
        """Fill the user's own cache, so that packages and tools tree need not be made."""
        say("imgbuild: first build, which downloads packages")
        self._build(self.place.project.root, self.place.project.cache)
        self.fresh_cache()

    def fresh_cache(self) -> None:
        """Make a cache that holds the packages and the tools tree, and nothing else."""
        own, warm = self.place.cache, self.place.project.cache
        remove_tree(own)
        (own / "stages/tools").mkdir(parents=True)
        trees = sorted((warm / "stages/tools").iterdir(), key=lambda path: path.stat().st_mtime)
        if not trees:
            raise UserError(f"{warm}: no tools tree", hint="imgbuild build --profile cpu")
        for source, target in ((trees[-1], own / "stages/tools"), (warm / "debs", own)):
            self.place.runner.run(["cp", "--archive", "--link", source, target])

    def copy_project(self) -> None:
        """Copy the project's rooms to a folder in which a file can be changed."""
        copy_rooms(self.place.project.root, self.place.changed)

    def change(self, text: str) -> None:
        """Change the one overlay file that the incremental case is about."""
        stamp = self.place.changed / _STAMP
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(text)

    def build(self, *, changed: bool = False) -> Measured:
        """Build the project, or its changed copy; return seconds, memory and events."""
        project = self.place.changed if changed else self.place.project.root
        return self._build(project, self.place.cache)

    def _build(self, project: Path, cache: Path) -> Measured:
        command = Path(sys.executable).with_name("imgbuild")
        options = ["--profile", PROFILE, "--site", SITE, "--out", str(self.place.out), "--json"]
        env = {"IMGBUILD_PROJECT": str(project), "IMGBUILD_CACHE": str(cache)}
        return measure(self.place.runner, [str(command), "build", *options], env=env)


def copy_rooms(project: Path, target: Path) -> None:
    """Copy what a build reads to a folder, made anew, in which files can be changed."""
    remove_tree(target)
    for room in _ROOMS:
        shutil.copytree(project / room, target / room, symlinks=True)


def stage_seconds(run: Measured) -> dict[str, float]:
    """Return the seconds of each stage that a build with --json told."""
    events = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return {e["stage"]: float(e["seconds"]) for e in events if e["event"] == "StageEnded"}

"""Runs the real `imgbuild` in a place of its own, and looks for what it left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMGBUILD = Path(sys.executable).with_name("imgbuild")
ROOMS = ("image", "overlays", "units", "imgnode")
_LIMIT_S = 900.0  # a driver is compiled beside other work


@dataclass(frozen=True)
class Result:
    """An ended command; `err` is what people read."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """Assert that the command ended with exit code 2 and said `words`, and no traceback."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err, self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in:\n{self.err}"

    def done(self) -> None:
        """Assert that the command ended well."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"

    def keys(self) -> dict[str, str]:
        """Return the cache key of each stage that a build with `--json` told."""
        events = [json.loads(line) for line in self.out.splitlines()]
        return {one["stage"]: one["key"] for one in events if one["event"] == "StageEnded"}


@dataclass
class Running:
    """A command under way, in a session of its own; its `--json` events are read as they come."""

    process: subprocess.Popen[str]
    errors: Path

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield each event until the output ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def reach(self, stage: str) -> None:
        """Read events until `stage` starts."""
        for event in self.events():
            if event == {"event": "StageStarted", "stage": stage}:
                return
        raise AssertionError(f"stage {stage} never started:\n{self.errors.read_text()}")

    def hit(self, number: signal.Signals) -> Result:
        """Send a signal to the command's process group, as a terminal does; return the end."""
        os.killpg(self.process.pid, number)
        return self.end()

    def end(self) -> Result:
        """Wait for the end."""
        out, _ = self.process.communicate(timeout=_LIMIT_S)
        return Result(self.process.returncode, out, self.errors.read_text())


@dataclass(frozen=True)
class Place:
    """A project, a cache and an output folder below one temporary folder `top`."""

    top: Path

    @property
    def project(self) -> Path:
        return self.top / "project"

    @property
    def cache(self) -> Path:
        return self.top / "cache"

    @property
    def out(self) -> Path:
        return self.top / "made" / "out"

    def write(self, name: str, text: str) -> Path:
        """Write one file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def lock_file(self, profile: str) -> Path:
        return self.project / "config/locks" / f"{profile}.lock.json"

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Result:
        """Run `imgbuild` with `words` to its end."""
        return self.start(*words, env=env).end()

    def build(
        self, profile: str = "bare", *words: str, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run `imgbuild build` into the output folder."""
        return self.run("build", "--profile", profile, "--out", str(self.out), *words, env=env)

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> Running:
        """Start `imgbuild` with `words`."""
        own = {"IMGBUILD_PROJECT": str(self.project), "IMGBUILD_CACHE": str(self.cache)}
        errors = self.top / f"stderr-{time.monotonic_ns()}"
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [str(IMGBUILD), *words],
                env={**os.environ, **own, **(env or {})},
                cwd=self.top,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        return Running(process, errors)

    def nothing_half_written(self) -> None:
        """Assert that no output, no part of one, no work folder and no mount is there."""
        made = [path.name for path in self.out.parent.glob("*")]
        assert made == [], f"in the output folder: {made}"
        finished = list((self.project / "out").rglob("*"))
        assert finished == [], f"in the project's output folder: {finished}"
        locks = {path.name for path in (self.project / "config/locks").glob("*")}
        parts = [name for name in locks if not name.endswith(".lock.json") or name[0] == "."]
        assert parts == [], f"beside the locks: {parts}"
        self.nothing_at_work()

    def nothing_at_work(self) -> None:
        """Assert that the cache has no work folder and nothing is mounted."""
        work = [path.name for path in (self.cache / "work").glob("*")]
        assert work == [], f"in the cache's work folder: {work}"
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        below = [line for line in mounts if f"{self.top}/" in line and " tmpfs " not in line]
        assert below == [], f"mounted: {below}"


def copy_project(source: Path, target: Path, *, link: bool) -> None:
    """Make `target` a project with `source`'s configuration and its rooms, linked or copied."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / "config", target / "config", dirs_exist_ok=True)
    for room in ROOMS:
        if link:
            (target / room).symlink_to(source / room)
        else:
            shutil.copytree(source / room, target / room, symlinks=True, ignore=ignored)

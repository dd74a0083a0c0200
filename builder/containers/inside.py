"""Runs a program in a container's own root: its libraries, without network, nothing kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.core.context import Context
from builder.core.sandbox import Sandbox

_MOUNTS = "mnt"


@dataclass(frozen=True)
class Inside:
    """A container's root, unpacked for a while."""

    context: Context
    root: Path

    def run(
        self,
        script: Path,
        folders: Mapping[str, Path],
        words: Iterable[str],
        env: Mapping[str, str],
    ) -> None:
        """Run a Python script with `words`; each of `folders` is at /mnt/NAME, writable.

        Raises CommandError when it fails.
        """
        for name in folders:
            (self.root / _MOUNTS / name).mkdir(parents=True, exist_ok=True)
        (self.root / _MOUNTS / script.name).touch()
        argv: list[str | Path] = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-net"]
        argv += ["--ro-bind", self.root, "/", "--proc", "/proc", "--dev", "/dev"]
        argv += ["--ro-bind", "/sys", "/sys", "--tmpfs", "/tmp"]  # noqa: S108 - inside
        argv += ["--ro-bind", script, f"/{_MOUNTS}/{script.name}"]
        for name, folder in folders.items():
            argv += ["--bind", folder, f"/{_MOUNTS}/{name}"]
        argv += ["--", "/usr/bin/python3", f"/{_MOUNTS}/{script.name}", *words]
        own = {"HOME": "/tmp", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108
        self.context.runner.run(argv, env={**own, **env}, called=script.name)


@contextmanager
def inside(context: Context, tools: Sandbox, tars: Iterable[Path]) -> Iterator[Inside]:
    """Unpack layers, lowest first, for as long as the block lasts.

    They must be layers of a recipe: whiteouts of others are not applied.
    """
    with context.cache.workspace("inside") as work:
        for tar in tars:
            tools.run(
                ["tar", "--extract", f"--file={tar}", f"--directory={work}", "--numeric-owner"],
                write=[work],
                read=[tar.parent],
                privileged=True,
            )
        (work / "sys").mkdir(exist_ok=True)
        yield Inside(context, work)

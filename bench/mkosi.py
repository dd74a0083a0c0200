"""Runs mkosi inside its tools tree, in a mount and process namespace that ends with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.place import Place, say
from bench.recipe import write_recipe
from bench.stopwatch import Measured, measure
from bench.tree import ensure_tree
from builder.core.files import remove_tree

_HOME = "/mkosi"
_STAMP = "mkosi.extra/usr/share/bench/stamp"


@dataclass(frozen=True)
class Mkosi:
    """mkosi with a recipe comparable to our image."""

    place: Place

    @property
    def disk(self) -> Path:
        """The disk image that the last build made."""
        return self.place.mkosi / "out/image.raw"

    def prepare(self) -> None:
        """Make tools tree and recipe, and download what builds need."""
        ensure_tree(self.place)
        remove_tree(self.place.mkosi / "work")
        index = self.place.mkosi / "packages/lib/apt/lists"
        if not any(index.glob("*Packages*")) or not any(
            (self.place.mkosi / "packages/cache/apt/archives").glob("linux-image*.deb")
        ):
            say("mkosi: first build, which downloads packages")
            write_recipe(self.place, indexes_cached=False)
            self.build("--force")
        write_recipe(self.place, indexes_cached=True)

    def change(self, text: str) -> None:
        """Change the one overlay file that the incremental case is about."""
        stamp = self.place.mkosi / _STAMP
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(text)

    def build(self, *options: str) -> Measured:
        """Run `mkosi build` to its end; return seconds and memory."""
        return measure(self.place.runner, [*self._frame(), "mkosi", *options, "build"])

    def _frame(self) -> list[str]:
        words = ["bwrap", "--die-with-parent", "--unshare-pid", "--cap-add", "ALL"]
        words += ["--dev-bind", str(self.place.tools), "/", "--dev-bind", "/dev", "/dev"]
        words += ["--proc", "/proc", "--bind", "/sys", "/sys"]
        for folder in ("/tmp", "/run"):  # noqa: S108 - inside the namespace
            words += ["--tmpfs", folder]
        for file in ("/etc/resolv.conf", "/etc/hosts"):
            words += ["--ro-bind-try", file, file]
        words += ["--bind", str(self.place.mkosi), _HOME, "--chdir", _HOME]
        return [*words, "--setenv", "HOME", "/root", "--"]

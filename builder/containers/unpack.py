"""Unpacks an image the way that Docker's overlay2 has it: one folder of differences a layer.

containers-storage does it: whiteouts become character devices 0/0, opaque folders an
extended attribute, as the kernel's overlayfs wants them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.core.context import Context
from builder.core.sandbox import Sandbox


class Unpacked:
    """An image's layers as folders; nothing is unpacked before the first one is asked for."""

    def __init__(self, tools: Sandbox, layout: Path, work: Path) -> None:
        self._tools = tools
        self._layout = layout
        self._work = work
        self._folders: dict[str, Path] | None = None
        self._lock = threading.Lock()

    def move(self, diff_id: str, target: Path) -> None:
        """Move the content of a layer to the empty folder `target`; from any thread, once."""
        with self._lock:
            if self._folders is None:
                self._folders = self._unpack()
        target.rmdir()
        self._folders[diff_id].rename(target)

    def _unpack(self) -> dict[str, Path]:
        root, run, temporary = (self._work / name for name in ("root", "run", "tmp"))
        for folder in (root, run, temporary):
            folder.mkdir()
        store = f"containers-storage:[overlay@{root}+{run}]localhost/image"
        words: list[str | Path] = ["--insecure-policy", "--tmpdir", temporary, "copy", "--quiet"]
        self._tools.run(
            ["skopeo", *words, f"oci:{self._layout}", store],
            write=[self._work],
            read=[self._layout],
            env={"HOME": "/run", "TMPDIR": str(temporary)},
            privileged=True,
        )
        layers = json.loads((root / "overlay-layers" / "layers.json").read_text())
        return {
            layer["diff-digest"].removeprefix("sha256:"): root / "overlay" / layer["id"] / "diff"
            for layer in layers
        }


@contextmanager
def unpacked(context: Context, tools: Sandbox, layout: Path) -> Iterator[Unpacked]:
    """Give the layers of an image layout, on the cache's file system; gone afterwards."""
    with context.cache.workspace("container-store") as work:
        yield Unpacked(tools, layout, work)

"""Where things lie: the project's rooms, the cache, the output."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError


@dataclass(frozen=True)
class Project:
    """The rooms of a checkout; `root` is the folder that holds `image/` and `config/`."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """Return the project that holds `start` (default: the working directory).

        IMGBUILD_PROJECT in the environment names it directly. Raises UserError when
        no folder upwards is one.
        """
        named = os.environ.get("IMGBUILD_PROJECT")
        start = (Path(named) if named else start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "image" / "initrd.yaml").is_file() and (folder / "config").is_dir():
                return cls(folder)
        raise UserError(
            f"{start}: not inside an imgbuild project (no image/ and config/ here or above)",
            hint="change into the checkout, or set IMGBUILD_PROJECT",
        )

    @property
    def image(self) -> Path:
        """What an image is: package lists, initrd, partitions, boot loader."""
        return self.root / "image"

    @property
    def overlays(self) -> Path:
        """File trees laid over the root file system, one folder per feature."""
        return self.root / "overlays"

    @property
    def units(self) -> Path:
        """Systemd units, presets, tmpfiles.d and sysusers.d of the node."""
        return self.root / "units"

    @property
    def imgnode(self) -> Path:
        """The Python package that runs on the node."""
        return self.root / "imgnode"

    @property
    def profiles(self) -> Path:
        """What nodes are."""
        return self.root / "config" / "profiles"

    @property
    def sites(self) -> Path:
        """Where nodes are."""
        return self.root / "config" / "sites"

    @property
    def locks(self) -> Path:
        """Package locks, one file per profile."""
        return self.root / "config" / "locks"

    @property
    def cache(self) -> Path:
        """Stage results and downloads; IMGBUILD_CACHE in the environment moves it."""
        named = os.environ.get("IMGBUILD_CACHE")
        return Path(named).absolute() if named else self.root / ".cache" / "imgbuild"

    @property
    def out(self) -> Path:
        """Where finished images are put unless told otherwise."""
        return self.root / "out"

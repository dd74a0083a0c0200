"""Several versions of one image as real releases: built, signed, published."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from imgnode.payload import parse_payload
from tests.build.command import Place, copy_project

SERVER = "10.0.2.100"
CHANNEL = "stable"


@dataclass(frozen=True)
class Versions:
    """A project whose images are released into `repository`, for a site that knows the key."""

    place: Place
    cache: Path
    profile: str = "bare"

    @property
    def repository(self) -> Path:
        """The folder that a release server hands out."""
        return self.place.top / "repository"

    @property
    def key(self) -> Path:
        """The secret key that signs releases."""
        return next((self.place.top / "keys").glob("*.secret.asc"))

    def build(self, version: str) -> Path:
        """Build the project as it stands now under a version; return the output folder."""
        out = self.place.top / "images" / version
        words = ["build", "--profile", self.profile, "--version", version, "--out", str(out)]
        self.place.run(*words, env={"IMGBUILD_CACHE": str(self.cache)}).done()
        return out

    def release(self, version: str, *words: str) -> None:
        """Release a built version and let the channel name it."""
        image = self.place.top / "images" / version
        to = ["--to", str(self.repository), "--key", str(self.key), "--channel", CHANNEL]
        self.place.run(
            "release", str(image), *to, *words, env={"IMGBUILD_CACHE": str(self.cache)}
        ).done()

    def download(self, version: str) -> int:
        """Return the bytes that an empty machine fetches of a released version."""
        folder = self.repository / f"imgbuild-{self.profile}" / version
        payload = json.loads((folder / "manifest.json").read_text())["payload"]
        parts = sum(file.stat().st_size for file in folder.glob("*.zst"))
        return parts + sum(layer.bytes for layer in parse_payload(payload).files)


def make_versions(checkout: Path, top: Path, cache: Path, profile: str = "bare") -> Versions:
    """Return a project of its own with a new release key in its site."""
    place = Place(top)
    copy_project(checkout, place.project, link=False)
    place.run("keys", "new", "--to", str(top / "keys")).done()
    (public,) = (top / "keys").glob("*.gpg")
    shutil.copyfile(public, place.project / "config/sites/release.gpg")
    site = place.project / "config/sites/debian.yaml"
    more = f"releases: http://{SERVER}\nrelease_keys: [{{keyring: release.gpg}}]\n"
    more += "updates: {apply: write}\n"
    site.write_text(site.read_text() + more)
    return Versions(place, cache, profile)

"""What the image says about updates, and what of it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from imgnode.update.refused import SITE, Refused

_FACTS = Path("usr/lib/imgnode/image.json")


@dataclass(frozen=True)
class Facts:
    """`releases` is the address of the repository, without a slash at its end."""

    image_id: str
    version: str
    epoch: int
    releases: str
    channel: str
    apply: str

    @property
    def stem(self) -> str:
        """The label of this version's partitions."""
        return f"{self.image_id}_{self.version}"


def read_facts(root: Path = Path("/")) -> Facts:
    """Return the image's facts. Raises Refused for a site without a release server, or OSError."""
    values = json.loads((root / _FACTS).read_text())
    releases = values.get("releases")
    if not releases:
        fact = "this image names no release server"
        raise Refused(SITE, fact, "set `releases` and `release_keys` in the site file")
    updates = values["updates"]
    return Facts(
        image_id=values["image_id"],
        version=values["version"],
        epoch=values["epoch"],
        releases=releases.rstrip("/"),
        channel=updates["channel"],
        apply=updates["apply"],
    )

"""Docker: up, and knows the image of this version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.gate.attribution import DOCKER
from imgnode.gate.finding import IMAGE, Finding, Look, Waiting
from imgnode.layers.look import look
from imgnode.layers.report import State
from imgnode.payload import read_payload
from imgnode.serve import docker


@dataclass(frozen=True)
class DockerCheck:
    """Whether Docker can start the container. The service mends Docker's store: that may take.

    Where a layer is missing, Docker cannot know the image; the check of the layers tells of that.
    """

    root: Path = Path("/")
    name: str = DOCKER
    limit_s: float = 180

    def look(self) -> Look:
        """Look once; an image without a container needs no Docker."""
        container = read_payload(self.root).container
        if container is None or docker.image_is_known(container.reference):
            return Look()
        if not docker.answers():
            return _wait("Docker does not answer", "systemctl status docker containerd")
        if any(one.state is not State.MOUNTED for one in look(self.root)):
            return Look()
        fact = f"Docker does not know {container.reference}"
        return _wait(fact, "imgnode layers status; imgnode layers apply")


def _wait(fact: str, hint: str) -> Look:
    return Look(waiting=Waiting(fact, Finding(DOCKER, IMAGE, fact, hint)))

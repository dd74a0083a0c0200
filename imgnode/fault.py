"""Why serving failed, told so that a person knows whose matter it is.

The kind decides what happens next: a fault of the config counts against that config, and
after a few of them the node returns to the one that is proven (imgnode/serve/choice.py).
"""

from __future__ import annotations

CONFIG = "config"  # the model or a setting: mend the seed
SECRET = "secret"  # noqa: S105 - the config names one that is not here
MEMORY = "memory"  # the container took more than it may: mend the seed or the profile
TIMEOUT = "timeout"  # no token within the profile's start_timeout_s
CONTAINER = "container"  # the server ended by itself
FETCH = "fetch"  # the mirror does not answer, or not with what it promised
DISK = "disk"  # no room for the model
DOCKER = "docker"  # Docker cannot start the container
IMAGE = "image"  # this version's own files are damaged or not mounted
HARDWARE = "hardware"  # a GPU is missing, or its driver does not run

OF_THE_NODE = frozenset({DOCKER, IMAGE, HARDWARE})  # another config would not help
OF_THE_MOMENT = frozenset({FETCH, DISK})  # may be gone at the next boot


class Fault(Exception):
    """One reason: its kind, the fact, and what to do about it."""

    def __init__(self, kind: str, fact: str, hint: str | None = None) -> None:
        super().__init__(f"{fact} (hint: {hint})" if hint else fact)
        self.kind = kind

"""Which Docker the seeded store has been tried with (imgnode/layers/overlay2.py)."""

from __future__ import annotations

import re

from builder.model.lock import Lock

# Each is tried by tests/build/test_docker_suites.py or on a node: add here what was tried there.
TESTED = ("20.10", "26", "28")
_PACKAGES = ("docker.io", "docker-ce")


def is_tested(version: str) -> bool:
    """Tell whether a Docker's version, as Debian or dockerd writes it, is of a tested series."""
    upstream = version.rpartition(":")[2]
    return any(re.match(rf"{re.escape(series)}(?![0-9])", upstream) for series in TESTED)


def docker_warning(lock: Lock) -> str | None:
    """Return what to warn of before an image is built from a lock; None where all is well."""
    if lock.container is None:
        return None
    for package in lock.tree("image"):
        if package.name in _PACKAGES and not is_tested(package.version):
            return (
                f"{package.name} {package.version}: the seeded store is tested with Docker "
                f"{', '.join(TESTED)}; if it does not fit, nodes load the image at each boot "
                "(minutes, a second copy)"
            )
    return None

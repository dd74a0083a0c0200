"""The warning about a Docker that nobody has tried the seeded store with."""

from __future__ import annotations

import pytest

from builder.containers.dockers import docker_warning, is_tested
from builder.model.lock import Lock, LockedContainer, TreeName
from tests.unit import fakes


def lock(version: str, name: str = "docker.io", tree: TreeName = "image") -> Lock:
    made = fakes.lock(fakes.package(name, version=version, trees=(tree,)))
    return made.model_copy(update={"container": LockedContainer(source="recipe:x")})


@pytest.mark.parametrize(
    ("version", "tested"),
    [
        ("20.10.24+dfsg1-1+deb12u1+b4", True),
        ("26.1.5+dfsg1-9+b1", True),
        ("28.5.2+dfsg4", True),
        ("5:28.0.1-1~debian.12~bookworm", True),
        ("5:29.0.0-1~debian.12~bookworm", False),
        ("20.1.0", False),
        ("20.100", False),
        ("280.0", False),
        ("5:26", True),
    ],
)
def test_a_series_is_tested_or_not(version: str, tested: bool) -> None:
    assert is_tested(version) == tested


def test_an_untested_docker_is_warned_of() -> None:
    told = docker_warning(lock("5:31.0.0-1~debian.12~bookworm", "docker-ce"))
    assert told is not None
    assert told.startswith("docker-ce 5:31.0.0-1~debian.12~bookworm: the seeded store is tested")
    assert "20.10, 26, 28; if it does not fit, nodes load the image at each boot" in told


def test_a_docker_that_takes_no_seeded_store_is_not() -> None:
    assert docker_warning(lock("28.5.2")) is None
    assert docker_warning(lock("31.0", tree="tools")) is None
    assert docker_warning(lock("31.0").without_container()) is None

"""Places to build in: a snapshot of the project, and a cache that other tests share by links."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.model.lock import Lock
from tests.build.archives import PROJECT, Archives, broken_archives
from tests.build.boxed import add_box
from tests.build.command import ROOMS, Place, copy_project

CHECKOUT = Path(__file__).parents[2]
STAGES = ("tools", "base", "initrd", "root", "image")


# A shell that starts tests in the background has them ignore SIGINT, and so would the builds
# that are interrupted here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Builds need root; the mark lets `-m` choose them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.build)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="builds images: needs root"))


@dataclass(frozen=True)
class Warm:
    """A finished build of profile bare: its project (never changed), cache and files."""

    place: Place
    cache: Path
    keys: Mapping[str, str]  # of each stage: other tests fill the same cache

    @property
    def lock(self) -> Lock:
        return Lock.model_validate_json(self.place.lock_file("bare").read_text())

    @classmethod
    def build(cls, place: Place, profile: str) -> Warm:
        """Build a profile of `place` with the checkout's own cache (cold: minutes)."""
        cache = CHECKOUT / ".cache" / "imgbuild"
        result = place.build(profile, "--json", env={"IMGBUILD_CACHE": str(cache)})
        result.done()
        return cls(place, cache, result.keys())

    def result(self, stage: str) -> Path:
        """Return the result of a stage that the build has made or used."""
        return self.cache / "stages" / stage / self.keys[stage]

    def fill(self, cache: Path, stages: Iterable[str] = STAGES) -> None:
        """Give another cache the packages and results of some stages, as hard links.

        Nothing changes a file of the cache in place, so links are safe.
        """
        (cache / "debs").mkdir(parents=True)
        for package in self.lock.packages:
            name = f"{package.sha256}.deb"
            _link(self.cache / "debs" / name, cache / "debs" / name)
        for stage in stages:
            (cache / "stages" / stage).mkdir(parents=True)
            _link(self.result(stage), cache / "stages" / stage)


def _link(source: Path, target: Path) -> None:
    same = source.stat().st_dev == target.parent.stat().st_dev
    how = "--link" if same else "--reflink=auto"
    subprocess.run(["cp", "--archive", how, "--", str(source), str(target)], check=True)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    """Build profile bare."""
    place = Place(tmp_path_factory.mktemp("warm"))
    copy_project(CHECKOUT, place.project, link=False)
    return Warm.build(place, "bare")


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Build profile boxed."""
    place = Place(tmp_path_factory.mktemp("box"))
    copy_project(CHECKOUT, place.project, link=False)
    add_box(place)
    yield Warm.build(place, "boxed")
    shutil.rmtree(place.top, ignore_errors=True)


@pytest.fixture(autouse=True)
def _room_on_the_disk(tmp_path: Path) -> Iterator[None]:
    """Remove what a test has built: pytest would keep gigabytes."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A project with the checkout's configuration and an empty cache; no lock."""
    made = Place(tmp_path)
    copy_project(CHECKOUT, made.project, link=True)
    shutil.rmtree(made.project / "config/locks", ignore_errors=True)
    return made


@pytest.fixture
def built(tmp_path: Path, warm: Warm) -> Place:
    """The project of the warm build, with its lock; the cache is empty: see `Warm.fill`."""
    made = Place(tmp_path)
    copy_project(warm.place.project, made.project, link=True)
    return made


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archives]:
    """Tiny archives on the loopback interface, one good and the others broken."""
    with broken_archives(tmp_path_factory.mktemp("archives")) as made:
        yield made


@pytest.fixture
def tiny(place: Place) -> Place:
    """A project whose every package is in the tiny archives."""
    for room in ROOMS:
        (place.project / room).unlink()
        (place.project / room).mkdir()
    for name, text in PROJECT.items():
        place.write(name, text)
    return place

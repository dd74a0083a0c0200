"""The seeded store with the Docker of other Debian suites, and the copy where it does not fit."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.containers.dockers import is_tested
from builder.core.process import Runner
from builder.lock.mirror import base_addresses
from builder.model.container import ContainerImage
from builder.model.site import Archive, Site
from tests.build.conftest import CHECKOUT, Warm
from tests.build.orphans import no_orphans
from tests.build.test_container import manifest

SUITES = CHECKOUT / ".cache" / "suites"
KEYRING = "debian-archive-keyring.gpg"
PACKAGES = ("docker.io", "base-files", "coreutils", "dash", "mount", "tar", "util-linux")
OTHERS = {
    "bookworm": (),
    "trixie": ("docker-cli",),
    "sid": ("docker-cli", "systemd-standalone-sysusers"),
}
WEEK_S = 7 * 24 * 3600
UNSHARE = (
    "unshare",
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


@dataclass(frozen=True)
class Room:
    """A tree with a suite's Docker, and the files of the box."""

    tree: Path
    out: Path
    store: Path

    def play(self, scenario: str) -> dict[str, Any]:
        """Run a scenario of dockerroom.py; return what it saw."""
        self.store.mkdir()
        words = [sys.executable, "-m", "tests.build.dockerroom"]
        places = [str(self.tree), str(self.out), str(self.store)]
        before = self._layers()
        with no_orphans():
            done = subprocess.run(
                [*UNSHARE, *words, *places, scenario],
                cwd=CHECKOUT, capture_output=True, text=True, timeout=180, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        print(done.stdout)
        assert self._layers() == before
        mounts = Path("/proc/self/mounts").read_text()
        assert not [place for place in places if f" {place}" in mounts]
        loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True)
        assert str(self.out) not in loops.stdout
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    def _layers(self) -> dict[str, str]:
        files = (self.out / "layers").iterdir()
        return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.fixture
def room(request: pytest.FixtureRequest, box: Warm, tmp_path: Path) -> Room:
    return Room(suite_tree(request.param), box.place.out, tmp_path / "store")


def suite_tree(suite: str) -> Path:
    """Return a tree with the suite's Docker: unpacked, not set up; kept for a week."""
    tree = SUITES / suite
    if tree.is_dir() and time.time() - tree.stat().st_mtime < WEEK_S:
        return tree
    new = SUITES / f".{suite}.new"
    for old in (new, tree):
        shutil.rmtree(old, ignore_errors=True)
    SUITES.mkdir(parents=True, exist_ok=True)
    # sid's signature ends after a week, and a mirror may stand still for longer.
    options = f"signed-by=/usr/share/keyrings/{KEYRING} check-valid-until=no"
    Runner().run(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=extract",
            "--format=directory",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            f"--include={','.join((*PACKAGES, *OTHERS[suite]))}",
            suite,
            new,
            f"deb [{options}] {mirror()} {suite} main",
        ]
    )
    for name in ("etc/docker", "var/lib/docker"):
        (new / name).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(new / "var/run", ignore_errors=True)
    (new / "var/run").symlink_to("/run")  # as base-files sets it up
    new.touch()
    new.rename(tree)
    return tree


def mirror() -> str:
    """Return where this host's APT finds bookworm; the other suites lie beside it."""
    archive = Archive(uri="host:bookworm", suites=("bookworm",), keyring=KEYRING)
    return base_addresses(Runner(), Site(description="this host's mirror", archives=(archive,)))[0]


def container(room: Room) -> ContainerImage:
    found = manifest(room.out).payload.container
    assert found is not None
    return found


NEWER = [pytest.param(suite, marks=pytest.mark.long) for suite in OTHERS if suite != "bookworm"]


@pytest.mark.parametrize("room", ["bookworm", *NEWER], indirect=True)
def test_a_suites_docker_takes_the_seeded_store(room: Room) -> None:
    seen, image = room.play("seeded"), container(room)
    assert seen["listed"] == [f"sha256:{image.image_id}", f"{image.repository}:{image.tag}"]
    assert seen["known"]
    fine = "6.0.2 small"
    assert seen["runs"] == [fine, "done", fine, fine]  # a container that deletes harms no other
    assert not seen["known_after_prune"]
    assert seen["mended"] > 0
    assert seen["known_after_mending"]
    assert seen["mounted"] == []
    assert is_tested(seen["version"]), "this Docker takes the store: add it to the list"


@pytest.mark.parametrize(
    ("room", "store"),
    [
        ("bookworm", "vfs"),
        pytest.param("trixie", "vfs", marks=pytest.mark.long),
        pytest.param("sid", "containerd", marks=pytest.mark.long),
    ],
    indirect=["room"],
)
def test_a_docker_with_another_store_loads_a_copy(room: Room, store: str) -> None:
    seen = room.play(store)
    assert not seen["known"]
    assert "does not take the seeded layers: it loads a copy" in seen["why"]
    assert seen["made"] == seen["kept"]
    assert seen["differs"] == []
    assert seen["listed"] == ["imgnode/copy"]
    assert seen["ran"] == "6.0.2 small"
    assert seen["mounted"] == []

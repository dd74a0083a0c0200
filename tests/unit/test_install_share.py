"""An installed machine and its neighbour: what it serves, and what comes of bad neighbours."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imgnode.install import share as share_
from imgnode.install.run import Installed, install
from imgnode.install.share import Extent, serving, share
from imgnode.layers.store import Store
from tests.unit import hostile
from tests.unit.hostile import Site
from tests.unit.install_room import PROGRAMS, SIZE, Machine
from tests.unit.test_install import LAYER, installed, key, machine, place, site
from tests.unit.update_node import IMAGE, NEW, NEW_ROOT, sha

__all__ = ["key", "machine", "place", "site"]
pytestmark = pytest.mark.allow_commands(*PROGRAMS)
LOOPBACK = "127.0.0.1"
DATA = bytes(range(256)) * 40


def curl(url: str, *words: str) -> tuple[int, bytes]:
    argv = ["curl", "-s", "-m", "20", "-w", "%{stderr}%{http_code}", *words, url]
    done = subprocess.run(argv, capture_output=True, check=False)
    return int(done.stderr), done.stdout


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 100 + DATA + b"y" * 100)
    with serving({"/parts/a": Extent(disk, 100, len(DATA))}, 0, LOOPBACK) as port:
        yield f"http://{LOOPBACK}:{port}"


def test_an_extent_is_served_and_nothing_beside_it(files: str) -> None:
    assert curl(f"{files}/parts/a") == (200, DATA)
    assert curl(f"{files}/parts/a", "--continue-at", "500") == (206, DATA[500:])
    assert curl(f"{files}/parts/a", "--range", "5-10") == (200, DATA)  # not asked by curl -C
    assert curl(f"{files}/parts/a", "--continue-at", str(len(DATA)))[0] == 416
    for path in ("parts/b", "parts/../../../etc/passwd", ""):
        assert curl(f"{files}/{path}", "--path-as-is")[0] == 404


@pytest.fixture
def neighbour(machine: Machine, site: Site) -> Iterator[tuple[Installed, str]]:
    """A machine that is installed and shares, then the disk of another that is empty."""
    done = install(machine.order(site.address), machine.reporter(), machine.root)
    other = machine.disk.with_name("installed")
    machine.disk.rename(other)
    layers = machine.disk.with_name("var").rename(machine.disk.with_name("var-of-it"))
    with machine.disk.open("wb") as stream:
        stream.truncate(SIZE)
    uki = machine.disk.with_name("uki")
    done.uki.rename(uki)
    store = Store(layers.parent / "store")
    store.folder.parent.mkdir(parents=True)
    store.folder.symlink_to(layers / "lib/imgnode/layers")
    catalog = share_._catalog(replace(done, disk=other, uki=uki), store)
    site.asked.clear()
    with serving(catalog, 0, LOOPBACK) as port:
        yield done, f"http://{LOOPBACK}:{port}"


def large(asked: list[str]) -> list[str]:
    """Return what was fetched of parts and layers."""
    return [one for one in asked if one.endswith((".zst", ".erofs"))]


def test_a_neighbour_gives_all_that_is_large(
    machine: Machine, site: Site, neighbour: tuple[Installed, str]
) -> None:
    order = machine.order(site.address, peers=(neighbour[1],))
    install(order, machine.reporter(), machine.root)
    assert installed(machine)
    assert large(site.asked) == []


@pytest.mark.usefixtures("neighbour")
@pytest.mark.parametrize("kind", ["altered", "nothing", "silent"])
def test_a_neighbour_that_is_no_use_costs_nothing(machine: Machine, site: Site, kind: str) -> None:
    """What is signed decides; then the server is asked."""
    names = (f"parts/{sha(NEW_ROOT)}", f"layers/{LAYER}.erofs")
    bad = {name: b"z" * len(NEW_ROOT) for name in names} if kind == "altered" else {}
    notes: list[str] = []
    reporter = replace(machine.reporter(), say=notes.append)
    with hostile.serving(bad) as lying:
        peer = "http://127.0.0.1:9" if kind == "silent" else lying.address
        order = machine.order(site.address, peers=(peer,))
        install(order, reporter, machine.root)
    assert installed(machine)
    assert len(large(site.asked)) == 4
    assert any(one.startswith("not from a neighbour: ") for one in notes)


def test_the_second_neighbour_is_asked_when_the_first_is_gone(
    machine: Machine, site: Site, neighbour: tuple[Installed, str]
) -> None:
    order = machine.order(site.address, peers=("http://127.0.0.1:9", neighbour[1]))
    install(order, machine.reporter(), machine.root)
    assert installed(machine)
    assert large(site.asked) == []


def test_it_leaves_when_it_is_told_or_hears_nothing(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = install(machine.order(site.address), machine.reporter(), machine.root)
    for answers in ([True, None, True, False], [None] * share_._MISSES):
        said = iter(answers)
        share(done, 0, said.__next__, machine.root, 0)
        assert next(said, "end") == "end"
    monkeypatch.setattr(share_, "MOST_S", 0)
    share(done, 0, lambda: pytest.fail("it stays"), machine.root, 0)
    assert [one for one in threading.enumerate() if one.name == "share"] == []
    assert done.version == NEW
    assert done.offer.recipe.image_id == IMAGE

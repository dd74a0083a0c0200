"""Ctrl-C, SIGTERM and SIGKILL while something is half done: nothing of it stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from tests.build.archives import Archives, Server, serve, site
from tests.build.command import Place
from tests.build.conftest import STAGES, Warm
from tests.build.orphans import no_orphans
from tests.build.same import assert_same_bytes

_TOLD = "interrupted; nothing half-written is left"
_STALL_LIMIT_S = 20.0


@pytest.mark.parametrize(
    ("stage", "after_s", "signals"),
    [
        pytest.param("tools", 2.0, [SIGINT, SIGKILL], marks=pytest.mark.long),
        pytest.param("base", 4.0, [SIGINT], marks=pytest.mark.long),
        pytest.param("initrd", 1.5, [SIGINT], marks=pytest.mark.long),
        ("root", 1.5, [SIGINT, SIGTERM, SIGKILL]),
        ("image", 0.2, [SIGINT]),
    ],
)
def test_stage(
    built: Place, warm: Warm, stage: str, after_s: float, signals: list[Signals]
) -> None:
    """Interrupt one stage, all others being in the cache; then a build must succeed."""
    warm.fill(built.cache, [name for name in STAGES if name != stage])
    for number in signals:
        _interrupt(built, stage, after_s, number)
        assert not list((built.cache / "stages").glob(f"{stage}/*"))
    built.build().done()
    built.nothing_at_work()
    assert_same_bytes(warm.place.out, built.out, disk=stage == "image")


def _interrupt(place: Place, stage: str, after_s: float, number: Signals) -> None:
    with no_orphans():
        running = place.start("build", "--profile", "bare", "--json", "--out", str(place.out))
        running.reach(stage)
        time.sleep(after_s)
        result = running.hit(number)
        if number == SIGKILL:
            assert result.code == -SIGKILL
            return
        result.refused(_TOLD)
        assert '"event": "StageEnded"' in result.out
        assert "Built" not in result.out
    place.nothing_half_written()


@pytest.fixture
def slow(tiny: Place, archives: Archives) -> Iterator[Server]:
    """The good archive behind a server of its own, as the site of the tiny project."""
    with serve(archives.server.root) as server:
        tiny.write("config/sites/test.yaml", site(f"{server.uri}/good", archives.good.keyring))
        yield server


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_lock(tiny: Place, slow: Server, number: Signals) -> None:
    """Interrupt a lock while the mirror does not answer."""
    slow.stall_on = "/dists/"
    words = ("lock", "--profile", "tiny", "--site", "test")
    with no_orphans():
        running = tiny.start(*words)
        assert slow.stalled.wait(_STALL_LIMIT_S)
        running.hit(number).refused(_TOLD)
    assert not tiny.lock_file("tiny").exists()
    tiny.nothing_half_written()
    slow.stall_on = None
    tiny.run(*words).done()


@pytest.mark.parametrize("number", [SIGINT, SIGKILL])
def test_fetch(tiny: Place, slow: Server, number: Signals) -> None:
    """Interrupt the fetching of packages; the next build fetches them all."""
    tiny.run("lock", "--profile", "tiny", "--site", "test").done()
    slow.stall_on = "/tiny-kernel"
    words = ("build", "--profile", "tiny", "--site", "test", "--json")
    with no_orphans():
        running = tiny.start(*words, "--out", str(tiny.out))
        assert slow.stalled.wait(_STALL_LIMIT_S)
        result = running.hit(number)
        if number == SIGINT:
            result.refused(_TOLD)
            tiny.nothing_half_written()
    slow.stall_on = None
    tiny.start(*words, "--out", str(tiny.out)).reach("tools")
    debs = [path.name for path in (tiny.cache / "debs").iterdir()]
    assert len(debs) == len({Path(name).stem for name in debs}) == 4


def test_copy_to_the_output_folder(built: Place, warm: Warm) -> None:
    """Interrupt the last step: the output folder is not there, or it is whole."""
    warm.fill(built.cache)
    built.out.parent.mkdir()
    for number in (SIGINT, SIGKILL):
        with no_orphans():
            running = built.start("build", "--profile", "bare", "--json", "--out", str(built.out))
            _wait_for(built.out.with_name(f".{built.out.name}.part"))
            result = running.hit(number)
        if number == SIGINT:
            result.refused(_TOLD)
            built.nothing_half_written()
        assert not built.out.exists()
    built.build().done()
    assert_same_bytes(warm.place.out, built.out)
    assert [path.name for path in built.out.parent.iterdir()] == [built.out.name]
    built.nothing_at_work()


def _wait_for(path: Path) -> None:
    end = time.monotonic() + _STALL_LIMIT_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.005)

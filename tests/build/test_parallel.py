"""Commands that share one cache at the same time."""

from __future__ import annotations

from signal import SIGINT

from tests.build.command import Place
from tests.build.conftest import STAGES, Warm
from tests.build.same import assert_same_bytes

_UP_TO_BASE = ("tools", "base")


def test_two_builds_at_once(built: Place, warm: Warm) -> None:
    """Both have to make the same stages, into different folders: both succeed alike."""
    warm.fill(built.cache, _UP_TO_BASE)
    outs = [built.top / "first", built.top / "second"]
    builds = [built.start("build", "--profile", "bare", "--out", str(out)) for out in outs]
    results = [build.end() for build in builds]
    for result, out in zip(results, outs, strict=True):
        result.done()
        assert_same_bytes(warm.place.out, out, disk=False)
    said = [line.split()[:2] for result in results for line in result.err.splitlines()]
    for stage in ("initrd", "root", "image"):
        assert said.count([stage, "built"]) == 1
        assert said.count([stage, "cached"]) == 1
    built.nothing_at_work()


def test_build_without_cache_beside_one_with(built: Place, warm: Warm) -> None:
    """A build that makes all anew does not take away what another one works with."""
    warm.fill(built.cache, [name for name in STAGES if name != "root"])
    using = built.start("build", "--profile", "bare", "--json", "--out", str(built.out))
    using.reach("root")
    fresh = built.start(
        "build", "--profile", "bare", "--no-cache", "--json", "--out", str(built.top / "fresh")
    )
    waiting = "tools: in use by another build, waiting"
    assert any(event.get("text") == waiting for event in fresh.events())
    using.end().done()
    assert_same_bytes(warm.place.out, built.out, disk=False)
    fresh.hit(SIGINT).refused()
    built.nothing_at_work()


def test_prune_beside_a_build(built: Place, warm: Warm) -> None:
    """Pruning leaves what a build works with, and its work folders."""
    warm.fill(built.cache, [name for name in STAGES if name != "root"])
    building = built.start("build", "--profile", "bare", "--json", "--out", str(built.out))
    building.reach("root")
    pruned = built.run("cache", "prune", "--keep", "0")
    pruned.done()
    building.end().done()
    assert_same_bytes(warm.place.out, built.out, disk=False)
    left = {path.name for path in (built.cache / "stages").iterdir() if list(path.iterdir())}
    assert {"tools", "base", "root", "image"} <= left
    after = built.run("cache", "prune", "--keep", "0")
    after.done()
    assert not list((built.cache / "stages").glob("*/*"))

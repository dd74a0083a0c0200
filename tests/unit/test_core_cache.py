"""Stage results: made once, whole or not at all, shared by builds at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.core.cache import Cache, Stage
from builder.core.events import StageEnded, StageStarted
from tests.unit.fakes import Events

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "code.py"
    path.write_text("version = 1\n")
    return path


class Maker:
    """Fills a result; `count` is in a file, so that it holds across processes."""

    def __init__(self, folder: Path, text: str = "x", pause_s: float = 0.0) -> None:
        self.log = folder / "made.log"
        self.text, self.pause_s = text, pause_s

    def __call__(self, result: Path) -> None:
        with self.log.open("a") as log:
            log.write("made\n")
        time.sleep(self.pause_s)
        (result / "file").write_text(self.text)

    @property
    def count(self) -> int:
        return len(self.log.read_text().splitlines())


def cache(folder: Path, *, fresh: bool = False) -> tuple[Cache, Events]:
    events = Events()
    return Cache(folder / "cache", events, fresh=fresh), events


def outcomes(events: Events) -> list[str]:
    return [event.outcome for event in events if isinstance(event, StageEnded)]


def work(folder: Path) -> list[str]:
    return [path.name for path in (folder / "cache/work").glob("*")]


def release(store: Cache) -> None:
    """Do what the end of a process does: let go of the results in use."""
    for lock in store._held:
        lock.close()


def test_a_miss_makes_and_a_hit_does_not(tmp_path: Path, code: Path) -> None:
    store, events = cache(tmp_path)
    make, stage = Maker(tmp_path), Stage("root", {"a": 1}, code)
    first = store.get(stage, make)
    assert store.get(stage, make) == first
    assert (first / "file").read_text() == "x"
    assert make.count == 1
    assert outcomes(events) == ["built", "cached"]
    assert events[0] == StageStarted("root")
    ends = [event for event in events if isinstance(event, StageEnded)]
    assert ends[0].bytes == ends[1].bytes > 0
    assert ends[0].key == ends[1].key == first.name
    assert work(tmp_path) == []


@pytest.mark.parametrize("stop", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, code: Path, stop: BaseException
) -> None:
    def fail(result: Path) -> None:
        (result / "half").write_text("x")
        raise stop

    store, events = cache(tmp_path)
    stage = Stage("root", {}, code)
    with pytest.raises(type(stop)):
        store.get(stage, fail)
    assert store.entries() == []
    assert work(tmp_path) == []
    assert not (tmp_path / "cache/stages/root").exists()
    assert outcomes(events) == ["failed"]
    assert (store.get(stage, Maker(tmp_path)) / "file").is_file()


def test_a_failed_fresh_build_keeps_the_earlier_result(tmp_path: Path, code: Path) -> None:
    def fail(_: Path) -> None:
        raise ValueError

    stage = Stage("root", {}, code)
    store, _ = cache(tmp_path)
    path = store.get(stage, Maker(tmp_path, "old"))
    release(store)
    with pytest.raises(ValueError, match=r"^$"):
        cache(tmp_path, fresh=True)[0].get(stage, fail)
    assert (path / "file").read_text() == "old"


def test_fresh_makes_anew_and_stores_it(tmp_path: Path, code: Path) -> None:
    stage = Stage("root", {}, code)
    store, _ = cache(tmp_path)
    store.get(stage, Maker(tmp_path, "old"))
    release(store)
    again, events = cache(tmp_path, fresh=True)
    assert (again.get(stage, Maker(tmp_path, "new")) / "file").read_text() == "new"
    assert outcomes(events) == ["built"]
    release(again)
    path = cache(tmp_path)[0].get(stage, Maker(tmp_path, "never"))
    assert (path / "file").read_text() == "new"
    assert work(tmp_path) == []


def test_the_key_follows_name_inputs_and_code(tmp_path: Path, code: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("version = 2\n")
    room = tmp_path / "room"
    room.mkdir()
    (room / "a.py").write_text("version = 1\n")
    stages = [
        Stage("root", {"a": 1}, code),
        Stage("root", {"a": 2}, code),
        Stage("root", {"a": 1, "b": None}, code),
        Stage("base", {"a": 1}, code),
        Stage("root", {"a": 1}, other),
        Stage("root", {"a": 1}, room),
    ]
    assert len({stage.key for stage in stages}) == len(stages)
    assert Stage("root", {"b": 2, "a": 1}, code).key == Stage("root", {"a": 1, "b": 2}, code).key


def test_two_threads_make_a_stage_once(tmp_path: Path, code: Path) -> None:
    make, stage = Maker(tmp_path, pause_s=0.2), Stage("root", {}, code)
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(cache(tmp_path)[0].get(stage, make)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 4
    assert len(set(results)) == 1
    assert make.count == 1


def test_two_processes_make_a_stage_once(tmp_path: Path, code: Path) -> None:
    make, stage = Maker(tmp_path, pause_s=0.2), Stage("root", {}, code)

    def build() -> None:
        assert (cache(tmp_path)[0].get(stage, make) / "file").is_file()

    processes = [FORK.Process(target=build) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(10)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert make.count == 1


def test_prune_keeps_the_last_used_of_each_stage(tmp_path: Path, code: Path) -> None:
    store, _ = cache(tmp_path)
    for stage in ("root", "base"):
        for number in range(3):
            path = store.get(Stage(stage, {"n": number}, code), Maker(tmp_path, str(number)))
            os.utime(path, (number, number))
    release(store)
    store, _ = cache(tmp_path)
    assert [entry.used_at for entry in store.entries()] == [0, 0, 1, 1, 2, 2]
    gone = store.prune(keep=2)
    assert sorted((entry.stage, entry.used_at) for entry in gone) == [("base", 0), ("root", 0)]
    assert all(entry.bytes > 0 for entry in gone)
    kept = sorted((e.path / "file").read_text() for e in store.entries())
    assert kept == ["1", "1", "2", "2"]
    assert len(store.prune(keep=0)) == 4
    assert store.entries() == []


def test_a_hit_counts_as_use(tmp_path: Path, code: Path) -> None:
    store, _ = cache(tmp_path)
    first, second = (Stage("root", {"n": number}, code) for number in range(2))
    for when, stage in ((1, first), (2, second)):
        os.utime(store.get(stage, Maker(tmp_path)), (when, when))
    store.get(first, Maker(tmp_path))
    release(store)
    (gone,) = cache(tmp_path)[0].prune(keep=1)
    assert gone.key == second.key


def test_prune_spares_what_a_running_build_uses(tmp_path: Path, code: Path) -> None:
    store, _ = cache(tmp_path)
    path = store.get(Stage("root", {}, code), Maker(tmp_path))
    assert cache(tmp_path)[0].prune(keep=0) == []
    assert (path / "file").is_file()
    release(store)
    assert len(cache(tmp_path)[0].prune(keep=0)) == 1


def test_a_fresh_build_does_not_pull_a_result_from_under_another(
    tmp_path: Path, code: Path
) -> None:
    stage = Stage("root", {}, code)
    store, _ = cache(tmp_path)
    path = store.get(stage, Maker(tmp_path, "old"))
    held = os.open(path, os.O_PATH)  # as a mount of it would
    other = threading.Thread(
        target=lambda: cache(tmp_path, fresh=True)[0].get(stage, Maker(tmp_path, "new"))
    )
    other.start()
    time.sleep(0.2)
    assert os.listdir(f"/proc/self/fd/{held}")  # noqa: PTH208 - by its handle
    release(store)
    other.join(10)
    assert not other.is_alive()
    os.close(held)
    assert (path / "file").read_text() == "new"


def test_a_workspace_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    store, _ = cache(tmp_path)
    with store.workspace("one") as first, store.workspace("one") as second:
        assert first != second
        assert list(first.iterdir()) == []
        (first / "file").touch()
    assert work(tmp_path) == []


def test_sweep_removes_the_dead_and_spares_the_living(tmp_path: Path) -> None:
    store, _ = cache(tmp_path)
    child = _killed_inside_a_workspace(store)
    assert len(work(tmp_path)) == 1
    with store.workspace("alive") as alive:
        (alive / "file").write_text("precious")
        store.sweep()
        assert (alive / "file").read_text() == "precious"
        (name,) = work(tmp_path)
        assert str(child) not in name
    assert work(tmp_path) == []


def test_a_folder_without_a_lock_is_dead(tmp_path: Path) -> None:
    (tmp_path / "cache/work/root-1-1").mkdir(parents=True)
    cache(tmp_path)[0].sweep()
    assert work(tmp_path) == []


def test_sweeping_an_empty_cache_is_fine(tmp_path: Path) -> None:
    store, _ = cache(tmp_path)
    store.sweep()
    assert (store.entries(), store.prune(keep=1)) == ([], [])


def test_many_sweep_and_work_at_the_same_time(tmp_path: Path) -> None:
    """Builds start with a sweep; neither it nor a new workspace may meet a half-made folder."""
    store, _ = cache(tmp_path)

    def use() -> None:
        for _ in range(30):
            store.sweep()
            with store.workspace("x") as folder:
                (folder / "file").touch()
                store.sweep()
                assert (folder / "file").exists()

    assert _all_well([use] * 3)


def _all_well(jobs: list[Callable[[], None]]) -> bool:
    processes = [FORK.Process(target=job) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    return [process.exitcode for process in processes] == [0] * len(jobs)


def _killed_inside_a_workspace(store: Cache) -> int:
    def die() -> None:
        with store.workspace("dead") as folder:
            (folder / "file").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=die)
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    assert process.pid is not None
    return process.pid

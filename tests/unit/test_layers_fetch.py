"""Fetching a layer file: resume, refusal, checksums, patience; curl is played."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgnode.layers import fetch as module
from imgnode.layers.fetch import Server, fetch, read_server
from imgnode.layers.store import Store
from imgnode.problems import Problem
from imgnode.process import Finished
from tests.unit.layers_node import SERVER, Node, content, play

WHOLE = content("part0")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    played = play(tmp_path, monkeypatch)
    played.serve("part0")
    return played


def get(node: Node, server: Server | None = None) -> Problem | None:
    store = Store(node.root)
    return fetch(node.file("part0"), store, server or read_server(node.root), "layer x")


def part(node: Node) -> Path:
    return Store(node.root).part(node.file("part0"))


def begun(node: Node, data: bytes) -> None:
    part(node).parent.mkdir(parents=True)
    part(node).write_bytes(data)


def test_a_file_arrives_whole_under_its_name(node: Node) -> None:
    assert get(node) is None
    assert node.path("part0").read_bytes() == WHOLE
    assert not part(node).exists()
    (argv,) = node.asked
    assert argv[-1] == f"{SERVER}layers/{node.file('part0').name}"
    assert argv[argv.index("--max-filesize") + 1] == str(len(WHOLE))
    assert argv[argv.index("--continue-at") + 1] == "-"
    assert {"--disable", "--fail", "=http,https", "--speed-limit"} <= set(argv)


def test_it_goes_on_where_it_stopped(node: Node) -> None:
    begun(node, WHOLE[:5000])
    got = []

    def curl(path: Path, data: bytes) -> Finished:
        have = path.stat().st_size
        got.append(have)
        path.write_bytes(data[: have + 3000])
        done = have + 3000 >= len(data)
        return Finished(0, "206", "") if done else Finished(18, "206", "curl: (18) closed")

    node.curl = curl
    assert get(node) is None
    assert got == [5000, 8000, 11000]
    assert node.path("part0").read_bytes() == WHOLE


def test_a_part_that_is_complete_needs_no_server(node: Node) -> None:
    begun(node, WHOLE)
    assert get(node) is None
    assert node.asked == []


@pytest.mark.parametrize(("junk", "tries"), [(5000, 2), (len(WHOLE), 1), (99999, 1)])
def test_a_part_that_is_wrong_is_fetched_once_more_from_nothing(
    node: Node, junk: int, tries: int
) -> None:
    begun(node, b"\0" * junk)
    assert get(node) is None
    assert node.count("curl") == tries
    assert node.path("part0").read_bytes() == WHOLE


def test_a_server_with_wrong_bytes_is_told_and_nothing_is_kept(node: Node) -> None:
    node.served[node.file("part0").name] = b"?" * len(WHOLE)
    problem = get(node)
    assert problem is not None
    assert "has another sha256 than this image names" in problem.fact
    assert node.count("curl") == 2
    assert not part(node).exists()
    assert not node.path("part0").exists()


def test_a_server_with_a_shorter_file(node: Node) -> None:
    node.served[node.file("part0").name] = WHOLE[:100]
    assert "another sha256" in str(get(node))
    assert not node.path("part0").exists()


@pytest.mark.parametrize(("rc", "code"), [(33, "200"), (22, "416")])
def test_a_server_that_cannot_resume_starts_again(node: Node, rc: int, code: str) -> None:
    begun(node, WHOLE[:5000])
    whole = node.curl

    def curl(path: Path, data: bytes) -> Finished:
        return Finished(rc, code, "cannot resume") if path.exists() else whole(path, data)

    node.curl = curl
    assert get(node) is None
    assert node.path("part0").read_bytes() == WHOLE


def test_a_file_that_the_server_lacks_is_not_waited_for(node: Node) -> None:
    node.served.clear()
    problem = get(node)
    assert problem is not None
    name = node.file("part0").name
    assert problem.fact == (
        f"is not in {node.store} and cannot be fetched from {SERVER}layers/{name}: "
        "curl: (22) The requested URL returned error: 404"
    )
    assert problem.hint is not None
    assert f"copy {name} there" in problem.hint
    assert node.count("curl") == 1


@pytest.mark.parametrize("rc", [1, 3, 23, 63, 127])
def test_what_no_other_try_mends_ends_at_once(node: Node, rc: int) -> None:
    node.curl = lambda _, __: Finished(rc, "000", "no way")
    assert "no way" in str(get(node))
    assert node.count("curl") == 1


@pytest.mark.parametrize(("rc", "code"), [(6, "000"), (7, "000"), (22, "503"), (22, "429")])
def test_a_server_out_of_reach_is_waited_for_two_minutes(node: Node, rc: int, code: str) -> None:
    node.curl = lambda _, __: Finished(rc, code, "")
    problem = get(node)
    assert f"curl ended with {rc}" in str(problem)
    assert 115 <= node.seconds <= 125


def test_a_second_file_does_not_wait_again(node: Node) -> None:
    node.curl = lambda _, __: Finished(7, "000", "refused")
    server = read_server(node.root)
    get(node, server)
    tries = node.count("curl")
    get(node, server)
    assert node.count("curl") == tries + 1


def test_a_slow_server_that_goes_on_is_waited_for(node: Node) -> None:
    def curl(path: Path, data: bytes) -> Finished:
        have = path.stat().st_size if path.exists() else 0
        path.write_bytes(data[: have + 1000])
        node.pass_time(100)
        return Finished(0 if have + 1000 >= len(data) else 28, "206", "slow")

    node.curl = curl
    assert get(node) is None
    assert node.seconds > 1200


def test_the_network_may_come_late(node: Node) -> None:
    whole = node.curl
    node.curl = lambda path, data: (
        Finished(6, "000", "no name") if node.seconds < 30 else whole(path, data)
    )
    assert get(node) is None


@pytest.mark.parametrize("facts", [{"releases": None}, {"releases": ""}, {"releases": 7}])
def test_without_a_server_it_says_where_the_file_belongs(
    node: Node, facts: dict[str, object]
) -> None:
    node.image(**facts)
    problem = get(node)
    assert problem is not None
    assert problem.fact == f"is not in {node.store}, and this image names no release server"
    assert "copy" in str(problem.hint)
    assert node.asked == []


def test_an_image_that_does_not_speak_of_servers(node: Node) -> None:
    (node.root / "usr/lib/imgnode/image.json").write_text("{}")
    assert read_server(node.root).url is None
    (node.root / "usr/lib/imgnode/image.json").unlink()
    assert read_server(node.root).url is None


def test_a_full_disk_is_told_before_anything_is_fetched(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Store(node.root).bad(node.file("part0"))
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"x")
    free = [100, len(WHOLE)]
    monkeypatch.setattr(module, "_free", lambda _: free.pop(0) if len(free) > 1 else free[0])
    assert get(node) is None
    assert not bad.exists()
    node.path("part0").unlink()
    free[:] = [100]
    problem = get(node)
    assert f"{len(WHOLE)} bytes are to be fetched, 100 are free" in str(problem)
    assert node.count("curl") == 1


def test_a_power_cut_leaves_no_file_or_a_whole_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, steps = os.fsync, [0]

    def cut(handle: int) -> None:
        steps[0] -= 1
        if steps[0] == 0:
            raise OSError(5, "cut")
        genuine(handle)

    monkeypatch.setattr(os, "fsync", cut)
    for step in (1, 2):
        steps[0] = step
        with pytest.raises(OSError, match="cut"):
            get(node)
        if node.path("part0").exists():
            assert node.path("part0").read_bytes() == WHOLE
    steps[0] = 0
    assert get(node) is None

"""The copy that Docker makes of the layers: when, of what, and that nothing bad of it stays."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from imgnode import process
from imgnode.fault import DOCKER, Fault
from imgnode.layers.report import Outcome, Report, State
from imgnode.payload import parse_payload
from imgnode.problems import Problem
from imgnode.process import Finished, pipe
from imgnode.serve import copied, docker
from imgnode.serve.instructions import instructions
from tests.unit.layers_node import image, layer_file, payload

GIB = 1 << 30
COPY = "sha256:" + "ef" * 32
IMAGE = image(2)


class Host:
    """Plays mount(8) and the pipe to Docker; `stacked` are the layers in the mount's order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read, self.loaded = Finished(0, "", ""), Finished(0, f"{COPY}\n", "")
        self.stacked: list[str] = []
        self.sink: list[str] = []
        self.log: list[str] = []
        self.mounted: list[str] = []
        (root / "var/lib/docker").mkdir(parents=True)
        self.tell()

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Finished:
        assert timeout_s > 0
        if argv[0] == "mount":
            options = argv[argv.index("-o") + 1]
            assert options.startswith("ro,")
            lower = options.partition("lowerdir=")[2].split(":")
            self.stacked = [Path(one).resolve().name for one in lower]
            self.mounted.append(argv[-1])
        else:
            assert argv[0] == "umount"
            self.mounted.remove(argv[-1])
        self.tell()
        return Finished(0, "", "")

    def pipe(
        self, source: Sequence[str], sink: Sequence[str], *, timeout_s: float
    ) -> tuple[Finished, Finished]:
        assert timeout_s > 0
        assert f"--directory={self.mounted[-1]}" in source
        self.sink = list(sink)
        return self.read, self.loaded

    def tell(self) -> None:
        lines = [f"1 1 0:1 / {point} rw - overlay x rw" for point in self.mounted]
        path = self.root / "proc/self/mountinfo"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))

    def free(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(process, "pipe", made.pipe)
    monkeypatch.setattr(docker, "version", lambda: "31.0.2")
    monkeypatch.setattr(docker, "storage_driver", lambda: "overlay2")
    monkeypatch.setattr(docker, "tag_image", lambda *words: made.log.append(f"tag {words}"))
    monkeypatch.setattr(docker, "remove_nameless", lambda: made.log.append("tidy"))
    return made


def report(*states: State) -> Report:
    files = parse_payload(payload(len(states))).files
    bad = Problem("layer part1", "damaged")
    return Report(
        tuple(
            Outcome(file, "x", state, None if state is State.MOUNTED else bad)
            for file, state in zip(files, states, strict=True)
        )
    )


GOOD = report(State.MOUNTED, State.MOUNTED)


def test_a_copy_is_of_all_layers_the_highest_first(host: Host) -> None:
    assert copied.copy_id(IMAGE, host.root) is None
    assert copied.make(IMAGE, host.root) == COPY
    layers = [layer_file(f"part{number}")["root_hash"] for number in (1, 0)]
    assert host.stacked == [*layers, "none"]
    assert host.sink[:2] == ["docker", "import"]
    assert host.sink[-1] == "-"
    assert host.mounted == []
    assert not (host.root / "run/imgnode/merged").exists()
    assert host.log == ["tidy", f"tag ('{COPY}', 'imgnode/copy:{IMAGE.digest[:12]}')"]
    assert copied.copy_id(IMAGE, host.root) == COPY
    assert copied.copy_id(replace(IMAGE, digest="0" * 64), host.root) is None


def test_what_a_killed_copy_left_mounted_goes_first(host: Host) -> None:
    left = host.root / "run/imgnode/merged/tree"
    left.mkdir(parents=True)
    host.mounted.append(str(left))
    host.tell()
    copied.make(IMAGE, host.root)
    assert host.mounted == []


def test_a_copy_that_was_read_in_part_is_removed(host: Host) -> None:
    host.read = Finished(2, "", "tar: ./lib/x: Read error: Input/output error")
    with pytest.raises(Fault, match="Read error: Input/output error") as caught:
        copied.make(IMAGE, host.root)
    assert caught.value.kind == DOCKER
    assert host.log == ["tidy", "tidy"]
    assert host.mounted == []
    assert copied.copy_id(IMAGE, host.root) is None


def test_layers_that_are_not_all_mounted_are_not_copied(host: Host) -> None:
    with pytest.raises(Fault, match="layer part1: damaged"):
        copied.check(IMAGE, report(State.MOUNTED, State.CORRUPT), host.root)


def test_a_docker_that_does_not_answer_is_not_asked_for_a_copy(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "version", lambda: None)
    with pytest.raises(Fault, match="Docker does not answer"):
        copied.check(IMAGE, GOOD, host.root)


@pytest.mark.parametrize(("driver", "gib"), [("overlay2", 5), ("overlayfs", 9)])
def test_a_copy_needs_room(
    host: Host, monkeypatch: pytest.MonkeyPatch, driver: str, gib: int
) -> None:
    layers = tuple(replace(one, bytes=2 * GIB) for one in IMAGE.layers)
    large = replace(IMAGE, layers=layers)
    monkeypatch.setattr(docker, "storage_driver", lambda: driver)
    host.free(gib * GIB, monkeypatch)
    why = copied.check(large, GOOD, host.root)
    assert why == (
        "Docker 31.0.2 does not take the seeded layers: "
        f"it loads a copy, {gib - 1}.0 GiB, once per boot"
    )
    host.free(gib * GIB - 1, monkeypatch)
    with pytest.raises(Fault, match=rf"needs {gib}.0 GiB, /var has {gib}.0 GiB free") as caught:
        copied.check(large, GOOD, host.root)
    assert caught.value.kind == DOCKER


def test_the_instructions_say_how_the_image_runs() -> None:
    config = {
        "Env": ["PATH=/bin", 'ODD=a "b" $c \\d', "EMPTY="],
        "WorkingDir": "/a b",
        "User": "7:8",
        "ExposedPorts": {"8000/tcp": {}},
        "Volumes": {"/data": {}},
        "Cmd": ["-m", "x"],
        "Entrypoint": ["python3"],
        "Labels": {"a": "b"},
        "StopSignal": "SIGINT",
    }
    assert instructions(json.dumps({"config": config})) == [
        'ENV PATH="/bin"',
        'ENV ODD="a \\"b\\" \\$c \\\\d"',
        'ENV EMPTY=""',
        'WORKDIR "/a b"',
        'USER "7:8"',
        'STOPSIGNAL "SIGINT"',
        "EXPOSE 8000/tcp",
        'VOLUME ["/data"]',
        'ENTRYPOINT ["python3"]',
        'CMD ["-m", "x"]',
    ]
    assert instructions('{"config": null}') == []


def test_a_value_of_two_lines_is_refused(host: Host) -> None:
    odd = replace(IMAGE, config=json.dumps({"config": {"Env": ["A=b\nc"]}}))
    with pytest.raises(Fault, match="cannot be copied: a line break"):
        copied.make(odd, host.root)
    assert host.mounted == []


PYTHON = Path(sys.executable).name
WRITE = [sys.executable, "-c", "print('x' * 1000000)"]
COUNT = [sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"]
HANG = [sys.executable, "-c", "import time; time.sleep(100)"]
FAIL = [sys.executable, "-c", "import sys; print('x'); sys.exit('read error')"]


@pytest.mark.allow_commands(PYTHON)
def test_a_pipe_tells_how_both_ended() -> None:
    read, counted = pipe(WRITE, COUNT, timeout_s=20)
    assert (read.rc, counted.rc, counted.stdout) == (0, 0, "1000001\n")
    read, counted = pipe(FAIL, COUNT, timeout_s=20)
    assert (read.rc, read.stderr, counted.rc) == (1, "read error\n", 0)


@pytest.mark.allow_commands(PYTHON, "no-such-program")
@pytest.mark.parametrize(
    ("source", "sink", "ends"),
    [
        (HANG, [sys.executable, "-c", "import sys; sys.exit(3)"], (-9, 3)),
        (HANG, COUNT, (-9, 124)),
        (["no-such-program"], COUNT, (127, 127)),
        (HANG, ["no-such-program"], (-9, 127)),
    ],
)
def test_a_pipe_leaves_nothing_running(
    source: list[str], sink: list[str], ends: tuple[int, int]
) -> None:
    first, second = pipe(source, sink, timeout_s=1)
    assert (first.rc, second.rc) == ends

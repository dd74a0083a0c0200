"""The checks of the gate below a folder that plays the node's root; serving has its own file."""

from __future__ import annotations

import errno
import json
import os
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from imgnode.gate import systemd
from imgnode.gate.checks import disk, layers, units
from imgnode.gate.checks import docker as docker_check
from imgnode.gate.checks.clock import ClockCheck
from imgnode.gate.checks.disk import DiskCheck
from imgnode.gate.checks.docker import DockerCheck
from imgnode.gate.checks.gpu import GpuCheck
from imgnode.gate.checks.layers import LayersCheck
from imgnode.gate.checks.units import UnitsCheck
from imgnode.gate.finding import CONFIG, EXTERNAL, HARDWARE, IMAGE, OK, Check, Look
from imgnode.layers.report import Outcome, State
from imgnode.payload import LayerFile
from imgnode.problems import Problem
from imgnode.process import Finished
from imgnode.serve import docker
from tests.unit import serve_node


def whose(look: Look) -> list[str]:
    assert look.waiting is None
    return [one.whose for one in look.findings]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "var").mkdir()
    return serve_node.make(tmp_path, epoch=1_000_000)


def test_a_good_disk_is_left_as_it_was(root: Path) -> None:
    before = sorted(root.rglob("*"))
    assert DiskCheck(root).look() == Look()
    assert sorted(set(root.rglob("*")) - set(before)) == [
        root / "var/lib",
        root / "var/lib/imgnode",
        root / "var/lib/imgnode/gate",
    ]


def test_a_volatile_var_is_the_machines(root: Path) -> None:
    serve_node.put(root / "run/imgnode/var-degraded", "/dev/vda7 cannot be mounted\n")
    found = DiskCheck(root).look()
    assert whose(found) == [HARDWARE]
    assert found.findings[0].fact == "/var is VOLATILE: /dev/vda7 cannot be mounted"


def test_a_var_that_the_tpm_does_not_open_is_the_versions(root: Path) -> None:
    """Another version may open it: one that is on trial goes back. No TPM: the machine's."""
    serve_node.put(root / "run/imgnode/var-degraded", "/dev/vda6 is encrypted\n")
    serve_node.put(root / "run/imgnode/var-locked", "sudo imgnode var seal\n")
    assert whose(DiskCheck(root).look()) == [HARDWARE]
    serve_node.put(root / "dev/tpmrm0", "")
    found = DiskCheck(root).look()
    assert whose(found) == [IMAGE]
    assert found.findings[0].hint == "sudo imgnode var seal"


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EROFS, HARDWARE), (errno.EIO, HARDWARE), (errno.ENOSPC, EXTERNAL)],
)
def test_a_var_that_cannot_be_written(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk, "write_atomic", refuse)
    assert whose(DiskCheck(root).look()) == [told]


@pytest.mark.parametrize(
    ("bytes_free", "files_free", "told"),
    [(128 << 20, 1000, []), ((128 << 20) - 4096, 1000, [EXTERNAL]), (1 << 40, 999, [EXTERNAL])],
)
def test_room_on_var(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    bytes_free: int,
    files_free: int,
    told: list[str],
) -> None:
    seen = types.SimpleNamespace(
        f_bavail=bytes_free // 4096, f_frsize=4096, f_files=10_000, f_favail=files_free
    )
    monkeypatch.setattr("os.statvfs", lambda _: seen)
    assert whose(DiskCheck(root).look()) == told


def test_the_clock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert whose(ClockCheck(root).look()) == [OK]
    serve_node.put(root / "run/systemd/timesync/synchronized", "")
    assert ClockCheck(root).look() == Look()
    monkeypatch.setattr("time.time", lambda: 999_999.0)
    found = ClockCheck(root).look()
    assert whose(found) == [EXTERNAL]
    assert "the clock says 1970-01-12" in found.findings[0].fact


def test_gpus_are_judged_by_their_own_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = (
        Problem("gpu.count", "expected 8 x A100, found 0", "look at the risers"),
        Problem("gpu.driver", "the module does not load"),
    )
    monkeypatch.setattr("imgnode.gpu.check.run", lambda where: problems if where == root else ())
    found = GpuCheck(root).look()
    assert whose(found) == [HARDWARE, IMAGE]
    assert str(found.findings[0]) == "expected 8 x A100, found 0 (hint: look at the risers)"


FILE = LayerFile("ab" * 32, 10, 8, "cd" * 32)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (State.MOUNTED, []),
        (State.MISSING, [EXTERNAL]),
        (State.CORRUPT, [IMAGE]),
        (State.FAILED, [IMAGE]),
    ],
)
def test_layers(root: Path, monkeypatch: pytest.MonkeyPatch, state: State, told: list[str]) -> None:
    monkeypatch.setattr(layers, "look", lambda _: [Outcome(FILE, "torch", state)])
    found = LayersCheck(root).look()
    assert whose(found) == told
    for one in found.findings:
        assert one.fact == f"layer torch (abababababab) is {state}"


@pytest.mark.parametrize(
    ("known", "answers", "text"),
    [
        (True, True, None),
        (False, True, f"Docker does not know {serve_node.REFERENCE}"),
        (False, False, "Docker does not answer"),
    ],
)
def test_docker_may_still_get_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, known: bool, answers: bool, text: str | None
) -> None:
    monkeypatch.setattr(docker, "image_is_known", lambda name: name and known)
    monkeypatch.setattr(docker, "answers", lambda: answers)
    waiting = DockerCheck(root).look().waiting
    assert (waiting and waiting.text) == text
    if waiting:
        assert (waiting.late.whose, waiting.late.fact) == (IMAGE, text)


def test_docker_cannot_know_an_image_without_its_layers(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "image_is_known", lambda _: False)
    monkeypatch.setattr(docker, "answers", lambda: True)
    monkeypatch.setattr(docker_check, "look", lambda _: [Outcome(FILE, "torch", State.MISSING)])
    assert DockerCheck(root).look() == Look()


def test_an_image_without_a_container_asks_no_docker(root: Path) -> None:
    (root / "usr/lib/imgnode/payload.json").unlink()
    assert DockerCheck(root).look() == Look()


class Systemd:
    """Answers as systemctl(1) does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = ""
        self.goal = "multi-user.target"
        self.jobs: list[str] = []
        self.failed: Mapping[str, str] = {}
        monkeypatch.setattr(systemd, "run", self._run)

    def _run(self, argv: list[str], **_: float) -> Finished:
        if argv[1] == "list-jobs":
            rows = [f"{n} {one} start running" for n, one in enumerate(self.jobs)]
            return Finished(0, "\n".join([*rows, "9 sleeping.service start waiting"]), "")
        if argv[1] == "list-units":
            rows = [f"{one} loaded failed failed What it is" for one in self.failed]
            return Finished(0, "\n".join(rows), "")
        if argv[2] == "--property=Job":
            job = self.job if argv[-1] == self.goal else "0"
            return Finished(0, f"Job={job}\n", "")
        return Finished(0, f"FragmentPath={self.failed[argv[-1]]}\n", "")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(monkeypatch)


def test_a_system_that_is_up(root: Path, manager: Systemd) -> None:
    manager.job = "0"
    assert UnitsCheck(root).look() == Look()


LIB = "/usr/lib/systemd/system"


@pytest.mark.parametrize(
    ("unit", "path", "told"),
    [
        ("systemd-pstore.service", f"{LIB}/systemd-pstore.service", [IMAGE]),
        ("var-x.mount", "/run/systemd/generator/var-x.mount", [IMAGE]),
        ("lost.service", "", [IMAGE]),
        ("own.service", "/etc/systemd/system/own.service", [CONFIG]),
        ("of-the-image.service", "/etc/systemd/system/of-the-image.service", [IMAGE]),
        ("run-r1.service", "/run/systemd/transient/run-r1.service", [CONFIG]),
        ("cloud-final.service", f"{LIB}/cloud-final.service", [CONFIG]),
        ("cloud-init.service", "/etc/systemd/system/cloud-init.service", [CONFIG]),
        ("docker.service", f"{LIB}/docker.service", []),
        ("vllm.service", f"{LIB}/vllm.service", []),
    ],
)
def test_whose_unit_failed(
    root: Path, manager: Systemd, unit: str, path: str, told: list[str]
) -> None:
    serve_node.put(root / "run/imgnode/etc/upper/systemd/system/own.service", "")
    manager.failed = {unit: path}
    found = UnitsCheck(root).look()
    assert whose(found) == told
    assert all(one.fact.startswith(f"{unit} failed") for one in found.findings)


@pytest.mark.parametrize(
    ("jobs", "late", "free"),
    [
        (["hangs.service"], IMAGE, False),
        ([], IMAGE, False),
        (["cloud-final.service", "imgnode-gate.service", "vllm.service"], CONFIG, False),
        (["cloud-final.service", "hangs.service"], IMAGE, False),
        (["imgnode-layers.service"], IMAGE, True),
    ],
)
def test_a_system_that_does_not_come_up(
    root: Path, manager: Systemd, jobs: list[str], late: str, free: bool
) -> None:
    manager.job, manager.jobs = "17", jobs
    waiting = UnitsCheck(root).look().waiting
    assert waiting is not None
    assert (waiting.late.whose, waiting.free) == (late, free)
    assert "imgnode-gate" not in waiting.text
    assert "sleeping" not in waiting.text


def test_what_the_seed_runs_last_is_waited_for(root: Path, manager: Systemd) -> None:
    manager.job, manager.goal, manager.jobs = "17", "cloud-init.target", ["cloud-final.service"]
    waiting = UnitsCheck(root).look().waiting
    assert waiting is not None
    assert waiting.late.fact.startswith("cloud-init.target is not reached")


def test_systemd_that_does_not_answer_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "run", lambda *_, **__: Finished(124, "", "no end after 60 s"))
    with pytest.raises(OSError, match="no end"):
        UnitsCheck(root).look()


def test_every_check_keeps_the_contract(root: Path) -> None:
    from imgnode.gate.run import checks  # noqa: PLC0415 - the whole gate, for this test alone

    found: tuple[Check, ...] = checks(root)
    names = [one.name for one in found]
    assert names == ["disk", "clock", "gpu", "units", "layers", "docker", "serve"]
    limit = json.loads((root / "usr/lib/imgnode/image.json").read_text())["serve"]
    assert found[-1].limit_s == 4 * limit["start_timeout_s"] + 600
    assert all(one.limit_s <= units.UnitsCheck.limit_s for one in found[:-1])

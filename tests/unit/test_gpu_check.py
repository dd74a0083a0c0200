"""The check as a whole: state file, metrics, commands, `imgnode status`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from imgnode import cli
from imgnode.commands import gpu as command
from imgnode.gpu import check
from imgnode.gpu.inventory import Inventory, State
from imgnode.gpu.profile import MigLayout, read_profile
from imgnode.process import Finished
from tests.unit.gpu_node import A100, Machine, gpu, inventory
from tests.unit.serve_node import put


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "scenario", tmp_path)
    made.image()
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    return made


def answer(monkeypatch: pytest.MonkeyPatch, found: Inventory) -> None:
    for module in (check, command):
        monkeypatch.setattr(module, "take", lambda *_, **__: found)


def metric(root: Path) -> dict[str, float]:
    lines = (root / "run/imgnode/metrics/gpu.prom").read_text().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def call(*words: str) -> int:
    try:
        cli.main(["gpu", *words])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)
            return 1
        return int(end.code or 0)
    return 0


def test_the_profile_is_read_from_the_image(node: Machine) -> None:
    assert read_profile(node.root) == A100
    node.image(mig={"profile": "3g.40gb", "count": 2}, names=["*"], power_limit_w=300)
    profile = read_profile(node.root)
    assert profile is not None
    assert (profile.mig, profile.names) == (MigLayout("3g.40gb", 2), ("*",))
    put(node.root / "usr/lib/imgnode/image.json", {"gpu": {"model": "x"}})
    with pytest.raises(ValueError, match="cannot be understood"):
        read_profile(node.root)


def test_a_node_without_gpus_costs_nothing(
    node: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "take", lambda *_, **__: pytest.fail("the driver is asked"))
    for facts in ({"gpu": None}, {}):
        put(node.root / "usr/lib/imgnode/image.json", facts)
        assert check.run(node.root) == ()
    assert not (node.root / "run").exists()
    assert [call("check"), call("apply")] == [0, 0]
    assert capsys.readouterr().out == "this image is for nodes without GPUs\n" * 2


def test_what_is_told(node: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [gpu(0, lost="GPU is lost"), *(gpu(n, remap_pending=n > 5) for n in range(1, 8))]
    answer(monkeypatch, inventory(*gpus))
    assert [one.key for one in check.run(node.root)] == ["gpu.0.lost"]
    told = check.read(node.root)
    assert told is not None
    assert (told["expected"], told["found"], told["model"]) == (8, 7, "A100-SXM4-80GB")
    assert [one["key"] for one in told["faults"]] == ["gpu.0.lost"]
    assert [one["key"] for one in told["warnings"]] == ["gpu.6.rows_pending", "gpu.7.rows_pending"]
    assert told["inventory"]["devices"][1]["links"][0] == {"active": True, "remote": "switch"}
    values = metric(node.root)
    assert values["imgnode_gpu_expected"] == 8
    assert values["imgnode_gpu_found"] == 7
    assert values['imgnode_gpu_problems{key="lost"}'] == 1
    assert values['imgnode_gpu_problems{key="rows_pending"}'] == 2
    assert values['imgnode_gpu_problems{key="hang"}'] == 0
    lines = check.lines(told)
    assert lines[0] == "gpu      UNFIT: 7 of 8 x A100-SXM4-80GB"
    assert lines[1].startswith(
        "gpu      fault: gpu.0.lost: GPU 0 (0000:00:00.0): GPU is lost (hint"
    )
    assert lines[2].startswith("gpu      warning: gpu.6.rows_pending: ")


def test_any_number_of_gpus_has_no_expectation(
    node: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.image(count=None)
    answer(monkeypatch, inventory(gpu(0)))
    report = check.look(node.root)
    assert report.faults == ()
    assert "imgnode_gpu_expected" not in metric(node.root)
    assert check.lines(check.read(node.root)) == ["gpu      fit: 1 x A100-SXM4-80GB"]


@pytest.mark.parametrize(("rc", "keys"), [(0, []), (3, ["gpu.fabric_manager"])])
def test_systemd_is_asked_for_the_fabric_manager(
    node: Machine, monkeypatch: pytest.MonkeyPatch, rc: int, keys: list[str]
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], *, timeout_s: float) -> Finished:
        assert timeout_s <= 10
        asked.append(argv)
        return Finished(rc, "", "")

    monkeypatch.setattr(check, "run_program", run)
    answer(monkeypatch, inventory())
    assert check.run(node.root) == ()
    assert asked == []
    node.image(fabric_manager=True)
    assert [one.key for one in check.run(node.root)] == keys
    assert asked == [["systemctl", "is-active", "--quiet", "nvidia-fabricmanager.service"]]


def test_a_person_without_sudo_is_told_all_the_same(
    node: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/run/imgnode/gpu.json")

    monkeypatch.setattr(check, "write_atomic", refuse)
    answer(monkeypatch, inventory(gpu(0)))
    assert [one.key for one in check.run(node.root)] == ["gpu.count"]


def test_check_ends_by_what_it_found(
    node: Machine,  # noqa: ARG001 - the root that is looked at
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(monkeypatch, inventory(*(gpu(n, remap_pending=n == 2) for n in range(8))))
    assert call("check") == 0
    told = capsys.readouterr()
    assert told.out == "fit: 8 GPUs answer, 1 warnings\n"
    assert told.err.startswith("gpu.2.rows_pending: ")
    answer(monkeypatch, Inventory(State.HANGS, "no answer within 45 s"))
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert call("check") == 1
    told = capsys.readouterr()
    assert told.out == "unfit: 0 GPUs answer, 0 warnings\n"
    assert told.err.startswith("<3>gpu.hang: the driver does not answer: no answer within 45 s")


def test_a_damaged_image_is_one_line(node: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (node.root / "usr/lib/imgnode/image.json").write_text("{")
    assert call("check") == 1
    assert capsys.readouterr().out.startswith("imgnode: Expecting property name")
    (node.root / "usr/lib/imgnode/image.json").unlink()
    assert call("check") == 1
    assert capsys.readouterr().out.endswith("image.json: No such file or directory\n")


def test_show(
    node: Machine,  # noqa: ARG001 - the root that is looked at
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = gpu(0, pcie_gen=4, temperature=34, power=62.0)
    answer(monkeypatch, inventory(sound, gpu(1, lost="GPU is lost"), pci=("0000:00:00.0",)))
    assert call("show") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["# driver 535.309.01, CUDA up to -", "# on the PCI bus: 0000:00:00.0"]
    assert [re.split("  +", line) for line in lines[2:]] == [
        ["GPU", "NAME", "PCI", "MEMORY", "NVLINK", "PCIE", "TEMP", "POWER", "ECC", "MIG"],
        ["0", "NVIDIA A100-SXM4-80GB", "0000:00:00.0", "80.0 GiB", "12/12", "4x16", "34 °C",
         "62/400 W", "on", "off"],
        ["1", "LOST: GPU is lost", "0000:01:00.0", "80.0 GiB", "12/12", "-", "-",
         "-/400 W", "on", "off"],
    ]  # fmt: skip
    assert len({line.index("0000:") for line in lines[3:]}) == 1
    assert call("show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["devices"][1]["lost"] == "GPU is lost"
    answer(monkeypatch, Inventory(State.NO_LIBRARY))
    assert call("show") == 0
    assert "# the driver's library is not installed\n" in capsys.readouterr().out

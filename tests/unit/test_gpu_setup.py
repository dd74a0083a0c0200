"""What a boot sets: through the real pynvml and a fake driver that remembers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from imgnode import process
from imgnode.commands import gpu as command
from imgnode.gpu import nodes, plan, setup
from imgnode.gpu.inventory import MigDevice
from imgnode.gpu.profile import MigLayout
from imgnode.process import Finished
from tests.unit.gpu_node import A100, Machine, build, gpu, inventory, machine
from tests.unit.serve_node import put
from tests.unit.test_gpu_check import call

PYTHON = Path(sys.executable).name
LAYOUT = {"profile": "3g.40gb", "count": 2}
HALVED = replace(A100, mig=MigLayout("3g.40gb", 2))
pytestmark = pytest.mark.allow_commands(PYTHON, "cc")


class Node:
    """Plays nvidia-modprobe and nvidia-smi; the children that speak with NVML are real."""

    def __init__(self, driver: Machine) -> None:
        self.driver = driver
        self.calls: list[str] = []
        self.broken: dict[str, Finished] = {}

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: str = "") -> Finished:
        if argv[0] == sys.executable:
            return process.run(argv, timeout_s=timeout_s, stdin=stdin)
        line = " ".join(argv)
        self.calls.append(line)
        for begin, finished in self.broken.items():
            if line.startswith(begin):
                return finished
        if argv[:2] == ["nvidia-smi", "mig"]:
            self._split(argv[3], argv[4:])
        return Finished(0, "", "")

    def _split(self, index: str, words: Sequence[str]) -> None:
        if words[0] == "-dgi":
            lines = self.driver.scenario.read_text().splitlines(keepends=True)
            kept = [one for one in lines if not one.startswith(f"gpu{index}.mig0")]
            self.driver.scenario.write_text("".join(kept))
        if words[0] == "-cgi":
            parts = words[1].split(",")
            self.driver.say(*(f"gpu{index}.mig{n} {one}" for n, one in enumerate(parts)))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    played = Node(machine(library, tmp_path, monkeypatch))
    for module in (setup, nodes):
        monkeypatch.setattr(module, "run", played.run)
    monkeypatch.setattr(command, "_ROOT", played.driver.root)
    played.driver.say("count 2")
    played.driver.image(count=2)
    return played


def test_what_is_right_is_left_alone(node: Node) -> None:
    outcome = setup.apply(node.driver.root)
    assert (outcome.done, outcome.failed, outcome.report.faults) == ((), (), ())
    assert node.calls == ["nvidia-modprobe -c 255", "nvidia-modprobe -u -c 0"]
    assert (node.driver.root / "run/imgnode/gpu.json").is_file()


def test_persistence_and_power_limit(node: Node) -> None:
    node.driver.image(count=2, power_limit_w=300)
    node.driver.say("gpu1.persistence 0")
    outcome = setup.apply(node.driver.root)
    assert outcome.done == (
        "GPU 0: power_limit 300",
        "GPU 1: persistence 1",
        "GPU 1: power_limit 300",
    )
    assert (outcome.failed, outcome.report.warnings) == ((), ())
    assert setup.apply(node.driver.root).done == ()


def test_what_the_driver_refuses_costs_that_step_alone(node: Node) -> None:
    node.driver.image(count=2, power_limit_w=700)
    node.driver.say("persistence 0", "gpu0.fail.nvmlDeviceSetPersistenceMode 4")
    outcome = setup.apply(node.driver.root)
    assert outcome.done == ("GPU 1: persistence 1",)
    assert outcome.failed == (
        "GPU 0: persistence 1: Insufficient Permissions",
        "GPU 0: power_limit 700: Invalid Argument",
        "GPU 1: power_limit 700: Invalid Argument",
    )
    assert [one.key for one in outcome.report.warnings] == ["gpu.0.settings", "gpu.1.settings"]


def test_a_driver_that_hangs_while_it_is_set(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_SET_S", 1)
    node.driver.say("persistence 0", "gpu1.hang.nvmlDeviceSetPersistenceMode 60")
    outcome = setup.apply(node.driver.root)
    assert outcome.done == ("GPU 0: persistence 1",)
    assert outcome.failed == ("GPU 1: persistence 1: the driver did not answer",)


def test_a_driver_that_hangs_at_once_is_not_asked_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_FIRST_S", 0.5)
    node.driver.say("hang.nvmlInitWithFlags 60")
    outcome = setup.apply(node.driver.root)
    assert [one.key for one in outcome.report.faults] == ["gpu.hang"]


def test_mig_from_the_beginning(node: Node) -> None:
    node.driver.image(count=2, mig=LAYOUT)
    caps = node.driver.root / "proc/driver/nvidia/capabilities"
    put(caps / "gpu0/mig/gi1/access", "")
    put(caps / "gpu0/mig/gi1/ci0/access", "")
    outcome = setup.apply(node.driver.root)
    create = "-cgi 3g.40gb,3g.40gb -C"
    assert outcome.done == (
        "GPU 0: mig 1",
        "GPU 1: mig 1",
        f"nvidia-smi mig -i 0 {create}",
        f"nvidia-smi mig -i 1 {create}",
    )
    assert (outcome.failed, outcome.report.faults) == ((), ())
    folder = "/proc/driver/nvidia/capabilities/gpu0/mig/gi1"
    assert node.calls[-1] == f"nvidia-modprobe -f {folder}/access -f {folder}/ci0/access"
    assert setup.apply(node.driver.root).done == ()


def test_another_layout_takes_the_place_of_the_old_one(node: Node) -> None:
    node.driver.image(count=2, mig=LAYOUT)
    node.driver.say("mig 1", "gpu0.mig0 7g.80gb", "gpu1.mig0 3g.40gb", "gpu1.mig1 3g.40gb")
    outcome = setup.apply(node.driver.root)
    assert outcome.done == (
        "nvidia-smi mig -i 0 -dci",
        "nvidia-smi mig -i 0 -dgi",
        "nvidia-smi mig -i 0 -cgi 3g.40gb,3g.40gb -C",
    )
    assert outcome.report.faults == ()


def test_mig_that_nobody_wants_goes(node: Node) -> None:
    node.driver.say("gpu0.mig 1", "gpu0.mig0 7g.80gb")
    outcome = setup.apply(node.driver.root)
    assert outcome.done[-1] == "GPU 0: mig 0"
    assert outcome.report.faults == ()


def test_a_gpu_in_use_keeps_its_layout(node: Node) -> None:
    node.driver.image(count=2, mig=LAYOUT)
    node.driver.say("mig 1", "gpu0.mig0 7g.80gb", "gpu0.processes 3", "gpu1.processes 1")
    outcome = setup.apply(node.driver.root)
    assert outcome.done == ()
    assert outcome.failed[0] == (
        "GPU 0 (0000:10:00.0): MIG is left as it is, 3 processes use it: systemctl stop vllm"
    )
    assert [one.key for one in outcome.report.faults] == ["gpu.0.mig", "gpu.1.mig"]


def test_a_board_that_needs_a_reset_says_so(node: Node) -> None:
    node.driver.image(count=1, mig=LAYOUT)
    node.driver.say("count 1", "mig_needs_reset 1")
    for done in (("GPU 0: mig 1",), ()):
        outcome = setup.apply(node.driver.root)
        assert outcome.done == done
        assert outcome.failed == ("GPU 0 (0000:10:00.0): MIG changes at the next reset: reboot",)


def test_nvidia_smi_that_fails_ends_the_splitting(node: Node) -> None:
    node.driver.image(count=2, mig=LAYOUT)
    node.driver.say("mig 1", "gpu0.mig0 7g.80gb", "gpu1.mig0 7g.80gb")
    node.broken["nvidia-smi mig -i 0 -dgi"] = Finished(19, "Unable to destroy: In use\n", "")
    outcome = setup.apply(node.driver.root)
    assert outcome.failed[0] == "nvidia-smi mig -i 0 -dgi: Unable to destroy: In use"
    assert [one for one in node.calls if "-cgi" in one] == []
    node.broken = {"nvidia-smi mig -i 0 -dci": Finished(6, "No compute instances found\n", "")}
    assert setup.apply(node.driver.root).failed == ()


def test_ecc_is_told_only(node: Node) -> None:
    node.driver.image(count=2, ecc=True)
    node.driver.say("gpu1.ecc 0")
    outcome = setup.apply(node.driver.root)
    assert outcome.failed == (
        "GPU 1 (0000:11:00.0): ECC is a person's matter: nvidia-smi -i 1 -e 1, then reboot",
    )


def test_what_the_plan_leaves_alone() -> None:
    """A GPU that does not say whether it is in use, or has no such setting, is not touched."""
    for changes in ({"processes": None}, {"mig": None, "mig_pending": None}):
        found = inventory(gpu(0, **changes))
        assert plan.settings(HALVED, found) == ()
    split = {"mig": True, "mig_pending": True, "processes": None}
    part = MigDevice("MIG-0", "7g.80gb", 1, 0)
    assert plan.clearing(HALVED, inventory(gpu(0, **split, mig_devices=(part,)))) == ()
    assert plan.splitting(HALVED, inventory(gpu(0, **split))) == ()
    assert plan.settings(A100, inventory(gpu(0, persistence=None, power_limit=None))) == ()


def test_device_files(node: Node) -> None:
    for address, minor in (("0000:10:00.0", 1), ("0000:11:00.0", 0)):
        facts = f"Model: \t\t NVIDIA A100\nDevice Minor: \t {minor}\n"
        put(node.driver.root / f"proc/driver/nvidia/gpus/{address}/information", facts)
    assert nodes.make(node.driver.root) == []
    assert node.calls == [
        "nvidia-modprobe -c 255",
        "nvidia-modprobe -c 1 -c 0",
        "nvidia-modprobe -u -c 0",
    ]
    node.broken["nvidia-modprobe -c 255"] = Finished(1, "", "modprobe: ERROR\n")
    node.calls.clear()
    assert nodes.make(node.driver.root) == ["nvidia-modprobe -c 255: modprobe: ERROR"]
    assert node.calls == ["nvidia-modprobe -c 255"]


def test_links_for_systemd(tmp_path: Path) -> None:
    """A symbolic link to a device stands in for a device file, which only root may make."""
    dev = tmp_path / "dev"
    (dev / "nvidia-caps").mkdir(parents=True)
    (dev / "nvidia0").symlink_to("/dev/null")
    (dev / "nvidia-caps/nvidia-cap1").symlink_to("/dev/zero")
    (dev / "nvidia-not-a-device").write_text("")
    assert nodes.link(tmp_path) == ["1:5", "1:3"]
    assert {one.name: str(one.readlink()) for one in (dev / "char").iterdir()} == {
        "1:3": "../nvidia0",
        "1:5": "../nvidia-caps/nvidia-cap1",
    }
    assert nodes.link(tmp_path) == []


def test_the_command(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.driver.say("gpu0.persistence 0")
    assert call("apply") == 0
    assert capsys.readouterr().out == "gpu: GPU 0: persistence 1\nfit: 2 GPUs answer, 0 warnings\n"
    node.broken["nvidia-modprobe -u"] = Finished(1, "", "no uvm")
    assert call("apply") == 1
    assert capsys.readouterr().err == "gpu: nvidia-modprobe -u -c 0: no uvm\n"

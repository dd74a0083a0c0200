"""Bad seeds on a real node: it comes up, lets the old key in, says what is wrong, and keeps
serving what was good. One node, switched off and given another seed each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from builder.core.process import Runner
from builder.vm.disk import write_seed
from builder.vm.seed import raw_files, seed_files
from builder.vm.session import VmNode
from tests.vm.conftest import BOOT_S, wait_settled

pytestmark = pytest.mark.vm

NODE_SEED = """#cloud-config
hostname: gpu-07
inference:
  model: org/small
  max_model_len: 2048
"""
WRONG_KEYS = """#cloud-config
hostname: gpu-08
inference:
  model: org/other
  max_model_length: 4096
  tensor_parallel_size: 3
"""
_LAYERS = "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'lol'] * 10)}]\n" for n in range(12)
)
BOMB = f"#cloud-config\n{_LAYERS}".encode()
TEN_MB = b"#cloud-config\nhostname: big\n" + b"# padding padding\n" * 580_000
GOOD = {"model": "org/small", "max_model_len": 2048}


@pytest.fixture(scope="module")
def served(up: VmNode) -> VmNode:
    """Give a node that has booted with a good seed."""
    assert status(up) == "good (/dev/vda6)"
    assert node_json(up)["inference"] == GOOD
    assert node_json(up)["source"] == "seed"
    shown = up.ssh.run("imgnode model show").stdout
    assert shown == '# from: seed\nmodel: "org/small"\nmax_model_len: 2048\n'
    assert "imgnode_seed_error 0" in metrics(up)
    assert up.ssh.run("cloud-init status").stdout.strip() == "status: done"
    return up


def node_json(node: VmNode) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.ssh.run("cat /run/imgnode/node.json").stdout)
    return found


def metrics(node: VmNode) -> str:
    return node.ssh.run("cat /run/imgnode/metrics/seed.prom").stdout


def status(node: VmNode) -> str:
    lines = node.ssh.run("imgnode status").stdout.splitlines()
    return next(line.removeprefix("seed").strip() for line in lines if line.startswith("seed"))


def boot_with(runner: Runner, node: VmNode, files: Mapping[str, str | bytes]) -> int:
    """Switch off, write another seed, switch on; return where the new boot's log begins."""
    node.machine.poweroff(BOOT_S)
    write_seed(runner, node.disk, files)
    since = node.machine.start()
    node.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(node)
    return since


def told_everywhere(node: VmNode, since: int, words: str, key: str) -> None:
    """The console (while booting and at the prompt), the status, journal and metrics say it."""
    assert node.machine.serial.read(since).count(words) >= 2
    assert words in status(node)
    assert words in node.ssh.run("sudo journalctl -b -p err -u imgnode-seed -o cat").stdout
    told = metrics(node)
    assert "imgnode_seed_error 1" in told
    assert f'imgnode_config_errors{{key="{key}"}} 1' in told


def unharmed(node: VmNode) -> None:
    """No unit failed, cloud-init is content, the last good config is in force."""
    assert node.ssh.run("systemctl --failed --no-legend --plain").stdout == ""
    assert node.ssh.run("cloud-init status").stdout.strip() == "status: done"
    assert node_json(node)["inference"] == GOOD
    assert node_json(node)["source"] == "last good seed"


def test_a_bad_inference_part_keeps_the_rest_of_the_seed(served: VmNode, runner: Runner) -> None:
    since = boot_with(runner, served, seed_files(WRONG_KEYS, served.key))
    told_everywhere(
        served, since, "inference.max_model_length: unknown key", "inference.max_model_length"
    )
    assert "tensor_parallel_size: 3 needs 3 GPUs" in served.ssh.run("imgnode status").stdout
    assert served.ssh.run("hostname").stdout.strip() == "gpu-08"
    unharmed(served)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(BOMB, "anchors and aliases", id="exploding anchors", marks=pytest.mark.long),
        pytest.param(TEN_MB, "is larger than 1024 KiB", id="10 MB", marks=pytest.mark.long),
    ],
)
def test_a_seed_that_cannot_be_read_leaves_the_last_good_one(
    served: VmNode, runner: Runner, data: bytes, words: str
) -> None:
    since = boot_with(runner, served, raw_files(data))
    told_everywhere(served, since, words, "user-data")
    assert served.ssh.run("hostname").stdout.strip() == "gpu-07"
    unharmed(served)


def test_a_partition_without_a_file_system_is_told_too(served: VmNode) -> None:
    """Judged again on the running node: the next boot would do the same."""
    served.ssh.run("sudo dd if=/dev/zero of=/dev/vda6 bs=1M count=8 conv=fsync")
    assert served.ssh.run("sudo systemctl restart imgnode-seed.service").rc == 0
    assert "/dev/vda6 cannot be mounted" in status(served)
    assert 'imgnode_config_errors{key="seed"} 1' in metrics(served)
    assert node_json(served)["inference"] == GOOD

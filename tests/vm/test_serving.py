"""The real inference server in its container on a real node: one node, minutes.

The model is SmolLM2-135M-Instruct, a bundle of the image; the network leads nowhere.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from builder.core.process import Runner
from builder.vm.chat import ask
from builder.vm.disk import write_seed
from builder.vm.qemu import API_PORT
from builder.vm.seed import seed_files
from builder.vm.session import VmNode, VmSize
from tests.vm.conftest import BOOT_S, Image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(2400)]

NODE_PROFILE = "cpu"
NODE_SIZE = VmSize(memory_mib=6144)
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
KEY = "not-a-key-of-anybody"
NODE_SEED = f"""#cloud-config
hostname: gpu-07
write_files:
  - path: /etc/credstore/imgnode.api-key
    permissions: "0600"
    content: {KEY}
inference:
  model: {MODEL}
  served_name: smollm2
  max_model_len: 2048
  api_key: {{secret: api-key}}
  env:
    MKL_CBWR: COMPATIBLE          # see docs/decisions: emulated processors
    ONEDNN_MAX_CPU_ISA: SSE41
"""
NOBODY_S = NODE_SEED.replace(f"model: {MODEL}", "model: nobody/nothing")
QUESTION = "What is the capital of France?"
SERVING_S = 1500.0


@pytest.fixture(scope="module")
def serving(node: VmNode) -> VmNode:
    """Give the node once it has made its first token."""
    wait_serving(node)
    return node


def wait_serving(node: VmNode, *, since: int = 0) -> None:
    node.machine.wait_for("login:", BOOT_S, since=since)
    node.ssh.wait_ready(BOOT_S)
    deadline = time.monotonic() + SERVING_S
    while time.monotonic() < deadline:
        if node.ssh.run("systemctl is-active vllm.service", 120).stdout.strip() == "active":
            return
        time.sleep(5)
    pytest.fail(node.ssh.run("sudo journalctl -b -u vllm -n 60 --no-pager -o cat", 120).stdout)


def sudo(node: VmNode, command: str) -> str:
    done = node.ssh.run(f"sudo {command}", 300)
    assert done.rc == 0, done.stderr
    return done.stdout


def judged(node: VmNode) -> dict[str, Any]:
    """Return the gate's verdict, once there is one."""
    deadline = time.monotonic() + SERVING_S
    while time.monotonic() < deadline:
        told: dict[str, Any] = json.loads(sudo(node, "imgnode gate show --json"))["now"]
        if told["state"] == "done":
            return told
        time.sleep(5)
    pytest.fail(f"no verdict: {told}")


def container(node: VmNode) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sudo(node, "docker inspect vllm"))[0]
    return found


def api(node: VmNode, path: str, key: str | None = KEY) -> requests.Response:
    head = {"Authorization": f"Bearer {key}"} if key else {}
    address = f"http://127.0.0.1:{node.machine.ports[API_PORT]}{path}"
    return requests.get(address, headers=head, timeout=300)


def test_a_model_answers(serving: VmNode) -> None:
    answer = ask(serving.machine.ports[API_PORT], QUESTION, key=KEY)
    assert answer.model == "smollm2"
    assert "Paris" in answer.text
    assert answer.tokens > 1


def test_only_who_has_the_key_is_served(serving: VmNode) -> None:
    assert api(serving, "/v1/models", key=None).status_code == 401
    assert api(serving, "/v1/models", key="another").status_code == 401
    assert api(serving, "/v1/models").status_code == 200


def test_the_key_is_in_no_process_list_and_no_log(serving: VmNode) -> None:
    assert (
        sudo(serving, f"sh -c 'ps -ww -e -o args= | grep -v grep | grep -c {KEY} || true'") == "0\n"
    )
    assert sudo(serving, f"sh -c 'journalctl -b | grep -v sudo | grep -c {KEY} || true'") == "0\n"


def test_the_servers_metrics_are_passed_on(serving: VmNode) -> None:
    test_a_model_answers(serving)
    asked = "curl -sS http://127.0.0.1:9101/metrics"
    deadline = time.monotonic() + BOOT_S
    while "imgnode_vllm_generation_tokens_per_second" not in (page := sudo(serving, asked)):
        assert time.monotonic() < deadline, page
        time.sleep(5)
    made = [line for line in page.splitlines() if line.startswith("vllm:generation_tokens_total{")]
    assert float(made[0].split()[-1]) > 1
    assert "vllm:time_to_first_token_seconds_bucket{" in page


def test_the_container_is_the_one_that_the_image_names_and_may_do_little(
    serving: VmNode, image: Image
) -> None:
    wanted = image.manifest.payload.container
    assert wanted is not None
    found = container(serving)
    assert found["Image"] == f"sha256:{wanted.image_id}"
    assert found["Config"]["Image"] == f"{wanted.repository}@sha256:{wanted.digest}"
    assert found["Config"]["User"] == "970:970"
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["NetworkMode"] == "imgnode"
    assert list(host["PortBindings"]) == ["8000/tcp"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert 0 < host["Memory"] == host["MemorySwap"]
    assert host["PidsLimit"] == 8192
    assert found["AppArmorProfile"] == "imgnode-vllm"


def test_the_container_has_no_tools_to_build_with_and_no_ballast(serving: VmNode) -> None:
    layers = "/run/imgnode/layers/*/usr"
    names = "gcc* g++* cc c++ clang* make cmake ninja git pip* apt*"
    tools = " -o ".join(f"-name '{name}'" for name in names.split())
    folders = f"{layers}/bin {layers}/local/bin"
    assert sudo(serving, f'sh -c "find {folders} {tools} 2>/dev/null || true"') == ""
    packages = f"{layers}/local/lib/python3.11/dist-packages"
    ballast = "-name tests -o -name '*.pyi' -o -name '*.h' -o -name '*.a'"
    found = sudo(serving, f'sh -c "find {packages} -maxdepth 4 {ballast} 2>/dev/null || true"')
    assert found == ""


def test_metrics_tell_of_tokens(serving: VmNode) -> None:
    lines = api(serving, "/metrics").text.splitlines()
    made = [line for line in lines if line.startswith("vllm:generation_tokens_total")]
    assert sum(float(line.rpartition(" ")[2]) for line in made) > 1
    own = sudo(serving, "cat /run/imgnode/metrics/serve.prom")
    assert 'imgnode_serve_state{state="serving"} 1' in own
    assert "imgnode_serve_config_fallback 0" in own


def test_reloading_systemd_does_not_disturb_it(serving: VmNode) -> None:
    before = container(serving)["State"]
    sudo(serving, "systemctl daemon-reload")
    sudo(serving, "systemctl daemon-reexec")
    answer = ask(serving.machine.ports[API_PORT], "Say yes.", max_tokens=4, key=KEY)
    assert answer.tokens > 0
    after = container(serving)["State"]
    assert after == before
    assert before["Running"] is True


def test_the_image_is_good_with_a_model_served(serving: VmNode) -> None:
    told = judged(serving)
    assert told["class"] == "ok"
    assert f"serving {MODEL}, first token after" in told["text"]  # beside a note on the clock
    serving.ssh.run("systemctl is-system-running --wait", 120)
    assert sudo(serving, "systemctl --failed --no-legend --plain") == ""
    assert "boot     good" in sudo(serving, "imgnode status")


def test_a_model_that_is_nowhere_is_refused_while_the_old_one_serves(serving: VmNode) -> None:
    before = container(serving)["State"]
    done = serving.ssh.run("sudo imgnode model set model=nobody/nothing", 120)
    assert done.rc == 2
    assert "the model nobody/nothing is not on this node" in done.stderr
    assert container(serving)["State"] == before


@pytest.mark.long
def test_a_seed_with_a_model_that_is_nowhere_leaves_the_last_good_config(
    runner: Runner, serving: VmNode
) -> None:
    """Three tries, then what was proven serves again; the node says so."""
    serving.machine.poweroff(BOOT_S)
    write_seed(runner, serving.disk, seed_files(NOBODY_S, serving.key))
    since = serving.machine.start()
    wait_serving(serving, since=since)
    assert api(serving, "/v1/models").json()["data"][0]["id"] == "smollm2"
    shown = json.loads(sudo(serving, "imgnode model show --json"))
    assert shown["fallback"] is True
    assert shown["wanted"]["model"] == "nobody/nothing"
    assert shown["inference"]["model"] == MODEL
    assert "nobody/nothing is not on this node" in shown["service"]["error"]["text"]
    assert "imgnode_serve_config_fallback 1" in sudo(serving, "cat /run/imgnode/metrics/serve.prom")
    assert "FALLBACK" in sudo(serving, "systemctl show vllm.service -P StatusText")
    told = judged(serving)
    assert told["class"] == "config"
    assert "the last good config serves" in told["text"]
    assert told["then"] == "the image is kept: mend the config"
    assert sudo(serving, "systemctl --failed --no-legend --plain") == ""

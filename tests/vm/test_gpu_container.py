"""How GPUs reach a container, with device nodes behind which there is no driver.

Opening such a node says ENXIO where the container may have it, EPERM where its cgroup forbids
it: that is what is asked, by a process in a container started as `imgnode serve show` says.
"""

from __future__ import annotations

import base64
import json
import shlex
import time
from typing import Any

import pytest

from builder.vm.session import VmNode, VmSize
from imgnode.serve.command import SLICE

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

NODE_PROFILE = "cpu"
NODE_SIZE = VmSize(cpus=9, memory_mib=3072)  # a ninth processor: two bytes of a mask
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CACHE = "/var/lib/imgnode/cache"
NODES = {
    "/dev/nvidia0": (195, 0),
    "/dev/nvidia1": (195, 1),
    "/dev/nvidiactl": (195, 255),
    "/dev/nvidia-uvm": (507, 0),
    "/dev/nvidia-uvm-tools": (507, 1),
}
STRANGER = "/dev/stranger"  # in the container, but not handed to it
HAS, FORBIDDEN = "ENXIO", "EPERM"
GPU_PROFILE = """set -eu
mkdir -p /run/stand-in/upper /run/stand-in/work
layers=lowerdir=/usr/lib/imgnode,upperdir=/run/stand-in/upper,workdir=/run/stand-in/work
mount -t overlay overlay -o $layers /usr/lib/imgnode
mkdir -p /usr/lib/imgnode/gpu/lib64 /usr/lib/imgnode/gpu/bin
cp /lib/x86_64-linux-gnu/libm.so.6 /usr/lib/imgnode/gpu/lib64/libcuda.so.1
printf '#!/bin/sh\\n' > /usr/lib/imgnode/gpu/bin/nvidia-smi
chmod 755 /usr/lib/imgnode/gpu/bin/nvidia-smi
python3 - <<'END'
import json, pathlib
path = pathlib.Path("/usr/lib/imgnode/image.json")
facts = {**json.loads(path.read_text()), "gpus": 2, "gpu": {"mig": None}, "gpu_runtime": "devices"}
path.write_text(json.dumps(facts))
END
"""
LINK = "from imgnode.gpu.nodes import link; link()"
BIND = (
    "from imgnode.gpu.placement import Placement as P; from imgnode.serve.docker import bind; "
    "bind(P((0,), '8', '0'))"
)
WATCH = """
import ctypes, errno, json, os, resource, shutil, time

def opened(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "open"

seen = {
    "user": os.getuid(),
    "library": ctypes.CDLL("libcuda.so.1") is not None,
    "program": shutil.which("nvidia-smi"),
    "read_only": bool(os.statvfs("/usr/local/nvidia").f_flag & os.ST_RDONLY),
    "memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
}
while True:
    seen["devices"] = {path: opened(path) for path in PATHS}
    seen["processors"] = sorted(os.sched_getaffinity(0))
    with open("/cache/seen.new", "w") as file:
        json.dump(seen, file)
    os.rename("/cache/seen.new", "/cache/seen.json")
    time.sleep(0.2)
""".replace("PATHS", repr([*NODES, STRANGER]))


def sudo(node: VmNode, script: str, timeout_s: float = 300) -> str:
    """Run a shell script as root; its error is ours."""
    text = base64.b64encode(script.encode()).decode()
    done = node.ssh.run(f"echo {text} | base64 -d | sudo bash -e", timeout_s)
    assert done.rc == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def without(up: VmNode) -> VmNode:
    """Give a node whose image is for two GPUs, with no driver and a model to serve."""
    sudo(up, GPU_PROFILE)
    sudo(up, f"imgnode model set --no-wait model={MODEL}")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and told(up).get("state") != "failed":
        time.sleep(2)
    sudo(up, "systemctl stop vllm; docker network inspect imgnode || docker network create imgnode")
    return up


@pytest.fixture(scope="module")
def gpus(without: VmNode) -> VmNode:
    """Give the node with the device nodes of two GPUs, and one of another device."""
    nodes = {**NODES, STRANGER: (195, 9)}
    sudo(without, "\n".join(f"mknod -m 666 {name} c {a} {b}" for name, (a, b) in nodes.items()))
    return without


def told(node: VmNode) -> dict[str, Any]:
    done = node.ssh.run("sudo cat /run/imgnode/serve.json", 120)
    found: dict[str, Any] = json.loads(done.stdout) if done.rc == 0 else {}
    return found


def start(node: VmNode, *further: str) -> None:
    """Start a container as the product does, with our program in the server's place."""
    text = sudo(node, "imgnode serve show").replace("\\\n", " ")
    words = shlex.split(text)
    at = next(number for number, word in enumerate(words) if "@sha256:" in word)
    cache = next(word for word in words if word.endswith("dst=/cache"))
    folder = cache.split("src=")[1].split(",")[0]
    ours = ["--detach", "--entrypoint=python3", *further]
    ours.append(f"--mount=type=bind,src={STRANGER},dst={STRANGER}")
    words = [*words[:at], *ours, words[at], "-c", WATCH]
    sudo(node, f"docker rm --force vllm; install -d -o 970 {folder}; {shlex.join(words)}")


def seen(node: VmNode) -> dict[str, Any]:
    """Return what the program in the container sees from now on."""
    script = f"cd {CACHE}/*/; rm -f seen.json; for i in $(seq 300); do sleep 0.2; "
    script += "[ ! -e seen.json ] || exec cat seen.json; done; docker logs vllm; exit 1"
    found: dict[str, Any] = json.loads(sudo(node, script))
    return found


def inspect(node: VmNode, field: str) -> str:
    return sudo(node, f"docker inspect -f '{{{{{field}}}}}' vllm").strip()


def as_the_service(node: VmNode, code: str) -> None:
    """Run a line of Python with what vllm.service may do, and no more."""
    change = r"/^ExecCondition|^ExecStopPost|^Restart/d; s/^Type=.*/Type=oneshot/; "
    change += r"s|^ExecStart=.*|ExecStart=/usr/bin/python3 /run/as-vllm.py|"
    unit = "/run/systemd/system/as-vllm.service"
    script = f"echo {shlex.quote(code)} > /run/as-vllm.py\n"
    script += f"sed -E '{change}' /usr/lib/systemd/system/vllm.service > {unit}\n"
    sudo(node, f"{script}systemctl daemon-reload; systemctl start as-vllm.service")


EXPECTED = {**dict.fromkeys(NODES, HAS), STRANGER: FORBIDDEN}


def test_a_node_without_its_gpus_says_so_and_the_config_loses_nothing(without: VmNode) -> None:
    found = told(without)
    assert found["state"] == "failed"
    text = "no GPU: /dev/nvidia0 is missing (hint: imgnode gpu show)"
    assert found["error"] == {"kind": "hardware", "text": text}
    assert found["starts_failed"] == 0
    assert sudo(without, "systemctl --failed --no-legend --plain") == ""


def test_without_links_this_runc_loses_the_gpus(gpus: VmNode) -> None:
    """What the links are for. A runc that no longer needs them has them all the same."""
    start(gpus)
    assert seen(gpus)["devices"] == EXPECTED
    sudo(gpus, "systemctl daemon-reload")
    version = sudo(gpus, "runc --version").split()[2].split("+")[0]
    lost = (1, 1, 3) <= tuple(int(part) for part in version.split(".")[:3]) < (1, 1, 7)
    everything = dict.fromkeys(EXPECTED, FORBIDDEN)
    assert seen(gpus)["devices"] == (everything if lost else EXPECTED), version


@pytest.fixture(scope="module")
def linked(gpus: VmNode) -> VmNode:
    """Give the node with a container that was started with links."""
    as_the_service(gpus, LINK)
    start(gpus)
    return gpus


def test_the_server_sees_its_gpus_and_the_drivers_files(linked: VmNode) -> None:
    found = seen(linked)
    assert found["devices"] == EXPECTED
    assert found["library"]
    assert found["program"] == "/usr/local/nvidia/bin/nvidia-smi"
    assert found["read_only"]
    assert (found["user"], found["memlock"]) == (970, -1)


@pytest.mark.parametrize("act", ["daemon-reload", "daemon-reexec"])
def test_a_reload_of_systemd_takes_nothing_away(linked: VmNode, act: str) -> None:
    before = inspect(linked, ".State.StartedAt")
    sudo(linked, f"systemctl {act}")
    assert seen(linked)["devices"] == EXPECTED
    assert inspect(linked, ".State.StartedAt") == before


def test_after_a_restart_of_docker_the_next_start_has_them(linked: VmNode) -> None:
    sudo(linked, "systemctl restart docker")
    assert inspect(linked, ".State.Running") == "false"
    start(linked)
    sudo(linked, "systemctl daemon-reload")
    assert seen(linked)["devices"] == EXPECTED


def test_a_bound_server_stays_on_its_processors(linked: VmNode) -> None:
    """--cpuset-cpus does not do that with this runc: it tells systemd of other processors."""
    as_the_service(linked, BIND)
    start(linked, "--cpus=0", f"--cgroup-parent={SLICE}")
    for act in ("daemon-reload", "daemon-reexec"):
        assert seen(linked)["processors"] == [8]
        sudo(linked, f"systemctl {act}")
    found = seen(linked)
    assert found["processors"] == [8]
    assert found["devices"] == EXPECTED

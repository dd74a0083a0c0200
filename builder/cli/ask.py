"""`imgbuild boot --ask`: a node that serves, and one question to it."""

from __future__ import annotations

import time

from builder.core.context import Context
from builder.core.events import Note
from builder.vm.chat import ask
from builder.vm.errors import VmTimeout
from builder.vm.qemu import API_PORT, Accel
from builder.vm.session import VmNode

SEED = """#cloud-config
hostname: demo
inference:
  model: HuggingFaceTB/SmolLM2-135M-Instruct
  served_name: smollm2
  max_model_len: 2048
"""
# An emulated processor works out a fused multiply-add 15 times slower than the two by themselves.
EMULATED = """  env:
    MKL_CBWR: COMPATIBLE
    ONEDNN_MAX_CPU_ISA: SSE41
"""
MEMORY_MIB = 6144
_UP_S = 600
_SERVING_S = 1800
_POLL_S = 3
_TELL_S = 30


def demo_seed(accel: Accel) -> str:
    """Return the seed of a node that serves the demo model."""
    return SEED + (EMULATED if accel == "tcg" else "")


def show_answer(context: Context, node: VmNode, question: str) -> None:
    """Wait until the node serves, ask it, print the answer with its pace, power it off."""
    started = time.monotonic()
    node.machine.wait_for("login:", _UP_S)
    context.emit(Note("info", f"login after {time.monotonic() - started:.0f} s"))
    node.ssh.wait_ready(_UP_S)
    _wait_serving(context, node, started)
    answer = ask(node.machine.ports[API_PORT], question)
    print(node.ssh.run("imgnode status; sudo docker images --digests").stdout)
    print(f"> {question}\n{answer.text.strip()}\n")
    print(
        f"{answer.model}: {answer.tokens} tokens in {answer.seconds:.1f} s, the first after "
        f"{answer.first_s:.1f} s, then {answer.tokens_per_second:.2f} a second"
    )
    node.machine.poweroff(_UP_S)


def _wait_serving(context: Context, node: VmNode, started: float) -> None:
    """Follow vllm.service until it serves; say each half minute where it stands."""
    told = time.monotonic()
    while time.monotonic() - started < _SERVING_S:
        state = _state(node)
        if state.get("ActiveState") == "active":
            context.emit(Note("info", f"serving after {time.monotonic() - started:.0f} s"))
            return
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            words = state.get("StatusText") or state.get("SubState", "")
            context.emit(Note("info", f"vllm.service: {words}"))
        time.sleep(_POLL_S)
    log = node.ssh.run("sudo journalctl -b -u vllm --no-pager -n 40 -o cat", timeout_s=60).stdout
    raise VmTimeout(f"the node does not serve after {_SERVING_S} s:\n{log}")


def _state(node: VmNode) -> dict[str, str]:
    """Return what systemd says of the service, by property."""
    show = "systemctl show vllm.service -p ActiveState,SubState,StatusText"
    lines = node.ssh.run(show, timeout_s=60).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)

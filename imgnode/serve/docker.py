"""What the node asks of Docker; every question has its time limit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from imgnode.fault import CONTAINER, DOCKER, MEMORY, Fault
from imgnode.gpu.placement import Placement
from imgnode.process import Child, Finished, run, start
from imgnode.serve.command import NETWORK, SLICE
from imgnode.serve.names import NAME

_ASK_S, _ACT_S = 60, 120
_NO_DOCKER, _NOT_EXECUTABLE, _NOT_FOUND, _KILLED = 125, 126, 127, 137
STOP_S = 30


def answers() -> bool:
    """Tell whether Docker answers."""
    return _docker("version", "--format={{.Server.Version}}").rc == 0


def image_is_known(reference: str) -> bool:
    """Tell whether Docker answers and has the image."""
    return _docker("image", "inspect", "--format={{.Id}}", reference).rc == 0


def version() -> str | None:
    """Return dockerd's version, None where it does not answer."""
    told = _docker("version", "--format={{.Server.Version}}")
    return told.stdout.strip() or None if told.rc == 0 else None


def storage_driver() -> str:
    """Return the name of dockerd's storage driver. Raises Fault."""
    told = _docker("info", "--format={{.Driver}}")
    _must(told, "cannot tell its storage driver")
    return told.stdout.strip()


def tag_image(image_id: str, name: str) -> None:
    """Give an image a name, for people. Raises Fault."""
    _must(_docker("image", "tag", image_id, name), f"cannot name the image {name}")


def remove_nameless() -> None:
    """Remove all images without a name that no container uses. Raises Fault."""
    pruned = _docker("image", "prune", "--force", timeout_s=_ACT_S)
    _must(pruned, "cannot remove images without a name")


def remove_container() -> None:
    """Remove a container that an earlier run has left, running or not. Raises Fault."""
    if _docker("container", "inspect", "--format={{.Id}}", NAME).rc == 0:
        _must(_docker("rm", "--force", NAME, timeout_s=_ACT_S), "cannot remove the old container")


def ensure_network() -> None:
    """Create the container's own network where it is missing. Raises Fault."""
    if _docker("network", "inspect", "--format={{.Id}}", NETWORK).rc != 0:
        made = _docker("network", "create", "--driver=bridge", NETWORK, timeout_s=_ACT_S)
        _must(made, f"cannot create the network {NETWORK}")


def bind(placement: Placement) -> None:
    """Bind SLICE to processors and memory nodes, or let it go. Raises Fault."""
    cpus, nodes = placement.cpus or "", placement.nodes or ""
    words = [SLICE, f"AllowedCPUs={cpus}", f"AllowedMemoryNodes={nodes}"]
    done = run(["systemctl", "set-property", "--runtime", *words], timeout_s=_ACT_S)
    _must(done, f"cannot bind {SLICE} to processors {cpus or 'all'}, memory {nodes or 'all'}")


def start_container(argv: Sequence[str], env: Mapping[str, str]) -> Child:
    """Start `docker run` as a child; the server's output is ours. Raises Fault."""
    try:
        return start(argv, env=env)
    except OSError as error:
        raise Fault(DOCKER, f"{argv[0]}: {error.strerror}") from error


def stop_container() -> None:
    """Stop the server: SIGTERM, and SIGKILL after 30 seconds."""
    _docker("stop", f"--time={STOP_S}", NAME, timeout_s=STOP_S + 10)


def why_it_ended(rc: int, memory: int) -> Fault:
    """Return the fault behind the end of `docker run` with `rc`; `memory` is its limit in bytes.

    125 to 127 are Docker's own (docker-run(1)), all others the server's.
    """
    if rc == _NO_DOCKER:
        return Fault(DOCKER, "docker run failed: see the lines above it in the journal")
    if _oom_killed():
        limit = f"{memory / (1 << 30):.1f} GiB"
        hint = "a smaller model or max_model_len, or serve.memory_percent of the profile"
        return Fault(MEMORY, f"out of memory: the container needs more than {limit}", hint)
    if rc in (_NOT_EXECUTABLE, _NOT_FOUND):
        return Fault(CONTAINER, f"the container's program cannot be run (exit code {rc})")
    killed = " (SIGKILL)" if rc == _KILLED else ""
    return Fault(CONTAINER, f"the server ended with exit code {rc}{killed}")


def _oom_killed() -> bool:
    told = _docker("container", "inspect", "--format={{json .State}}", NAME)
    try:
        state = json.loads(told.stdout)
    except ValueError:
        return False
    return isinstance(state, dict) and state.get("OOMKilled") is True


def _docker(*words: str, timeout_s: float = _ASK_S) -> Finished:
    return run(["docker", *words], timeout_s=timeout_s)


def _must(done: Finished, fact: str) -> None:
    if done.rc:
        raise Fault(DOCKER, f"{fact}: {' '.join(done.stderr.split())[:300]}")

"""Another Debian's Docker in a room of its own: seeded, used, pruned, mended; then made unfit.

Started by test_docker_suites.py as `unshare … python -m tests.build.dockerroom`: it makes the
chroot its root, so that the product's own code meets that Docker at the places of a node, and
prints what it saw as JSON. With its last process all mounts and daemons are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from imgnode.layers import dockerstore
from imgnode.layers.mounts import MOUNTS, mount_points
from imgnode.layers.report import Outcome, Report, State
from imgnode.payload import ContainerImage, Payload, parse_payload
from imgnode.process import Finished, run
from imgnode.serve import copied, docker

_UP_S, _END_S, _RUN_S = 60, 30, 120
_CONFIG = Path("/etc/docker/daemon.json")
_NODES_OWN = ("exec-opts", "log-driver")  # systemd and journald, which are not here
_CGROUP = "imgbuild-test-docker"
_LOOK = "import os, yaml; print(yaml.__version__, os.environ['BOX'])"
_WRITE = "import os, yaml; os.unlink(yaml.__file__); open('/new', 'w').write('x'); print('done')"
_ODD = "a 'b' \"c\" $HOME \\d #e"
Facts = dict[str, Any]
# Stores that know nothing of what is seeded, as settings of dockerd.
_UNFIT: dict[str, Facts] = {
    "vfs": {"storage-driver": "vfs"},
    "containerd": {"storage-driver": "overlayfs", "features": {"containerd-snapshotter": True}},
}


def main(chroot: Path, image: Path, store: Path, scenario: str) -> None:
    """Enter the room: its tree, the image's folder, an empty folder for Docker's store."""
    config = Path("tests/golden/overlays/etc/docker/daemon.json").read_text()
    payload = parse_payload(json.loads((image / "manifest.json").read_text())["payload"])
    _furnish(chroot, image, store, payload)
    _enter(chroot)
    own = {name: one for name, one in json.loads(config).items() if name not in _NODES_OWN}
    own |= {"bridge": "none", "iptables": False, "cgroup-parent": f"/{_CGROUP}"}
    other = _UNFIT.get(scenario)
    seen = _seeded(payload, own) if other is None else _unfit(payload, {**own, **other})
    print(json.dumps({**seen, "mounted": _left_over(payload)}))


def _seeded(payload: Payload, config: Facts) -> Facts:
    """Seed the store, use it, have Docker forget it all, and mend it."""
    image = _container(payload)
    dockerstore.seed(image)
    with _dockerd(config) as up_s:
        listed = _docker("images", "--no-trunc", "--format={{.ID}} {{.Repository}}:{{.Tag}}").stdout
        seen: Facts = {"version": docker.version(), "up_s": up_s, "listed": listed.split()}
        seen["known"] = docker.image_is_known(image.reference)
        seen["runs"] = [_run(image.reference, code) for code in (_LOOK, _WRITE, _LOOK)]
        _docker("system", "prune", "--all", "--force")
        seen["known_after_prune"] = docker.image_is_known(image.reference)
    seen["mended"] = dockerstore.seed(image)
    with _dockerd(config):
        seen["known_after_mending"] = docker.image_is_known(image.reference)
        seen["runs"].append(_run(image.reference, _LOOK))
    return seen


def _unfit(payload: Payload, config: Facts) -> Facts:
    """Find that Docker does not know what is seeded, and fall back."""
    image = _container(payload)
    dockerstore.seed(image)
    told = json.loads(image.config)
    told["config"]["Env"].append(f"ODD={_ODD}")
    told["config"] |= {"Cmd": ["-c", "print(1)"], "WorkingDir": "/a b", "User": "7:8"}
    told["config"] |= {"ExposedPorts": {"8000/tcp": {}}, "Volumes": {"/data": {}}}
    odd = replace(image, config=json.dumps(told))
    with _dockerd(config):
        seen: Facts = {"known": docker.image_is_known(image.reference)}
        outcomes = tuple(Outcome(one, "a layer", State.MOUNTED) for one in payload.files)
        seen["why"] = copied.check(odd, Report(outcomes))
        _must("docker", "import", "-", stdin="\0" * 10240)  # an empty tar: a copy that was cut off
        began = time.monotonic()
        made = copied.make(odd)
        seen |= {"made_s": time.monotonic() - began, "made": made, "kept": copied.copy_id(odd)}
        found = json.loads(_docker("inspect", "--format={{json .Config}}", made).stdout)
        seen["differs"] = [key for key, value in told["config"].items() if found[key] != value]
        seen["listed"] = _docker("images", "--format={{.Repository}}").stdout.split()
        seen["ran"] = _run(made, _LOOK)
    return seen


def _furnish(chroot: Path, image: Path, store: Path, payload: Payload) -> None:
    """Lay out the chroot as a node is: its own tree read-only, layers mounted, an empty store."""
    _must("mount", "--bind", chroot, chroot)
    _must("mount", "-o", "remount,bind,ro", chroot)
    for name in ("run", "tmp", "etc/docker"):
        _must("mount", "-t", "tmpfs", "tmpfs", chroot / name)
    for name in ("dev", "sys"):
        _must("mount", "--rbind", f"/{name}", chroot / name)
    _must("mount", "-t", "proc", "proc", chroot / "proc")
    _must("mount", "--bind", store, chroot / dockerstore.DATA)
    for file in payload.files:
        place = chroot / MOUNTS / file.root_hash
        place.mkdir(parents=True)
        _must("mount", "-t", "erofs", "-o", "loop,ro,nodev", image / "layers" / file.name, place)


def _enter(chroot: Path) -> None:
    """Make the chroot the root of everything in here; runc pivots in turn, and so must be able."""
    _must("pivot_root", chroot, chroot / "tmp")
    os.chdir("/")
    _must("umount", "--lazy", "/tmp")


@contextlib.contextmanager
def _dockerd(config: Facts) -> Iterator[float]:
    """Run dockerd; yield the seconds until it answered."""
    _CONFIG.write_text(json.dumps(config))
    log = Path("/run/dockerd.log")
    began = time.monotonic()
    with log.open("w") as stream:
        daemon = subprocess.Popen(["dockerd"], stdout=stream, stderr=stream)
    try:
        while docker.version() is None:
            assert daemon.poll() is None, "dockerd ended"
            assert time.monotonic() - began < _UP_S, "dockerd does not answer"
            time.sleep(0.1)
        yield time.monotonic() - began
    except BaseException:
        print(log.read_text(), file=sys.stderr)
        raise
    finally:
        daemon.terminate()
        daemon.wait(_END_S)
        _drop_cgroups()


def _drop_cgroups() -> None:
    """Remove dockerd's cgroups, which no namespace takes along; fails where something runs."""
    for pattern in (_CGROUP, f"*/{_CGROUP}"):
        for folder in Path("/sys/fs/cgroup").glob(pattern):
            folder.rmdir()


def _run(reference: str, code: str) -> str:
    """Run Python code in a container, as the image's entry point; return what it printed."""
    words = ["--rm", "--pull=never", "--network=none", "--user=0", "--workdir=/", reference]
    return _docker("run", *words, "-c", code).stdout.strip()


def _docker(*words: str) -> Finished:
    return _must("docker", *words)


def _must(*argv: str | Path, stdin: str = "") -> Finished:
    done = run([str(word) for word in argv], timeout_s=_RUN_S, stdin=stdin)
    assert done.rc == 0, f"{argv}: {asdict(done)}"
    return done


def _container(payload: Payload) -> ContainerImage:
    assert payload.container is not None
    return payload.container


def _left_over(payload: Payload) -> list[str]:
    """Return what is mounted below /run and the store, besides the layers."""
    known = {Path("/") / MOUNTS / file.root_hash for file in payload.files} | {Path("/run")}
    store = Path("/") / dockerstore.DATA
    found = mount_points(Path("/")) - known - {store}
    return sorted(str(one) for one in found if {store, Path("/run")} & {*one.parents})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])

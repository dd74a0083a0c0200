"""`make bench-container`: Docker's store seeded with links, against `docker load`.

The same image, the same node, one after the other; writes docs/benchmarks-container.md.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.place import say
from builder.cli.session import session
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import remove_tree, write_atomic
from builder.lock.store import read_lock
from builder.model.artifacts import Manifest
from builder.resolve import resolve
from builder.tools.tree import build_tools
from builder.vm.disk import prepare_disk, write_seed
from builder.vm.machine import Machine
from builder.vm.qemu import SSH_PORT, VmConfig
from builder.vm.seed import seed_files
from builder.vm.ssh import Ssh, make_key

_ROUNDS = 1  # loading takes ten minutes in an emulated machine
_UP_S, _RUN_S = 600.0, 1800.0
_SEED = "#cloud-config\nhostname: bench\n"
# Seconds from a stopped Docker with an empty store: until dockerd is up, until the image can be
# run, until a container has run; and what /var's file system wrote meanwhile.
_SCRIPT = """
set -eu
how=$1
systemctl stop docker.socket docker.service containerd.service
rm -rf /var/lib/docker/* /var/lib/containerd/* /run/imgnode/docker-seeded
sync; echo 3 > /proc/sys/vm/drop_caches
device=$(basename "$(findmnt -nro SOURCE /var)")
written() { sync; cat /sys/fs/ext4/$device/session_write_kbytes; }
now() { date +%s.%N; }
w0=$(written); t0=$(now)
if [ $how = seeded ]; then imgnode layers apply >&2; fi
t1=$(now)
systemctl start docker.service
t2=$(now)
if [ $how = load ]; then docker load --input /dev/vdb >&2; fi
t3=$(now)
image=$(docker images --quiet | head -n 1)
docker run --rm --network none --entrypoint /usr/bin/true $image
t4=$(now)
echo $t0 $t1 $t2 $t3 $t4 $w0 $(written)
"""


@dataclass(frozen=True)
class Round:
    """One way once: seconds, and bytes written to /var."""

    provide_s: float
    dockerd_s: float
    run_s: float
    written: int


def main() -> int:
    """Measure and write the page."""
    with session(debug=False, live=False) as context:
        folder = context.project.root / ".cache" / "bench" / "zerocopy"
        remove_tree(folder)
        folder.mkdir(parents=True)
        try:
            image = _newest(context)
            manifest = Manifest.model_validate_json((image / "manifest.json").read_text())
            rounds = _measure(context, image, folder)
        finally:
            remove_tree(folder)
        text = _page(manifest, rounds)
        write_atomic(context.project.root / "docs/benchmarks-container.md", text)
        say(text)
    return 0


def _newest(context: Context) -> Path:
    found = context.project.out.glob("cpu/*/manifest.json")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise UserError("no image of profile cpu", hint="imgbuild build --profile cpu")
    return newest.parent


def _measure(context: Context, image: Path, folder: Path) -> dict[str, list[Round]]:
    archive = folder / "image.tar"
    _archive(context, archive)
    disk = prepare_disk(context.runner, image / "disk.raw", folder / "disk.raw", 16 << 30)
    key = make_key(context.runner, folder / "key")
    write_seed(context.runner, disk, seed_files(_SEED, key.public))
    drive = f"if=none,id=archive,format=raw,readonly=on,file={archive}"
    extra = ("-drive", drive, "-device", "virtio-blk-pci,drive=archive")
    config = VmConfig(disk=disk, memory_mib=4096, extra=extra)
    rounds: dict[str, list[Round]] = {"seeded": [], "load": []}
    with Machine(context.runner, config) as machine:
        ssh = Ssh(context.runner, folder / "ssh", port=machine.ports[SSH_PORT], key=key)
        machine.wait_for("login:", _UP_S)
        ssh.wait_ready(_UP_S)
        ssh.run("systemctl is-system-running --wait", _UP_S)
        ssh.run(f"cat > /tmp/round <<'END'\n{_SCRIPT}\nEND", _UP_S)
        for _ in range(_ROUNDS):
            for how, done in rounds.items():
                done.append(_round(ssh, how))
                say(f"{how}: {done[-1]}")
    return rounds


def _archive(context: Context, target: Path) -> None:
    """Write the container image as `docker save` would (skopeo(1))."""
    spec = resolve(context.project, "cpu", "debian")
    lock = read_lock(context.project.locks / "cpu.lock.json", spec)
    tools = build_tools(context, lock)
    layouts = context.cache.root.glob("stages/container-oci/*")
    layout = max(layouts, key=lambda path: path.stat().st_mtime)
    tools.run(
        [
            "skopeo",
            "--insecure-policy",
            "copy",
            f"oci:{layout}",
            f"docker-archive:{target}:imgnode/loaded:1",
        ],
        write=[target.parent],
        read=[layout],
    )


def _round(ssh: Ssh, how: str) -> Round:
    done = ssh.run(f"sudo bash /tmp/round {how}", _RUN_S)
    if done.rc:
        raise UserError(f"{how}: {done.stderr}")
    *times, before, after = (float(word) for word in done.stdout.split()[-7:])
    t0, t1, t2, t3, t4 = times
    return Round(t1 - t0 + t3 - t2, t2 - t1, t4 - t3, int(1024 * (after - before)))


def _page(manifest: Manifest, rounds: dict[str, list[Round]]) -> str:
    container = manifest.payload.container
    size = sum(layer.bytes for layer in container.layers) if container else 0
    lines = [
        "# A container image on a node: seeded with links, against `docker load`",
        "",
        f"`make bench-container`, {_ROUNDS} round of each in one emulated machine (2 processors,",
        f"no KVM), image of {size / 1e9:.2f} GB, Docker's store empty and caches dropped.",
        "The machine was busy with other work: read the times as proportions.",
        "",
        "| way | image runnable after | dockerd up | `docker run` to its end | written to /var |",
        "| --- | --- | --- | --- | --- |",
    ]
    middle = {}
    for how, done in rounds.items():
        fields = (
            statistics.median(one.provide_s for one in done),
            statistics.median(one.dockerd_s for one in done),
            statistics.median(one.run_s for one in done),
        )
        written = statistics.median(one.written for one in done)
        middle[how] = fields[0]
        times = " | ".join(f"{value:.2f} s" for value in fields)
        lines.append(f"| {how} | {times} | {written / 1e6:.1f} MB |")
    ratio = middle["load"] / middle["seeded"]
    lines += ["", f"Runnable {ratio:.0f} times as fast.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

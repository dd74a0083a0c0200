"""`imgnode support-bundle`: one archive with all that is known of this node, secrets removed."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from imgnode.process import Finished
from imgnode.process import run as run_program
from imgnode.support.redact import Redactor, of_node

_LINES = "20000"
_MOST = 8 << 20  # of each file, its end
_LIMIT_S = 60.0
_JOURNAL = ("journalctl", "--no-pager", "--output=short-iso-precise", f"--lines={_LINES}")
_OWN = ("status", "health", "gate show", "update status", "model show", "recover status")
_OWN_TOO = ("alert status", "layers status", "gpu show", "backup list")
COMMANDS: dict[str, tuple[str, ...]] = {
    **{
        f"imgnode/{one.replace(' ', '-')}.json": ("imgnode", *one.split(), "--json")
        for one in (*_OWN, *_OWN_TOO)
    },
    "imgnode/serve-show.txt": ("imgnode", "serve", "show"),
    "journal/this-boot.txt": (*_JOURNAL, "--boot=0"),
    "journal/previous-boot.txt": (*_JOURNAL, "--boot=-1"),
    "journal/kernel.txt": (*_JOURNAL, "--boot=0", "--dmesg"),
    "journal/boots.txt": ("journalctl", "--no-pager", "--list-boots"),
    "system/dmesg.txt": ("dmesg", "--time-format=iso"),
    "system/units.txt": ("systemctl", "list-units", "--all", "--no-pager", "--full", "--plain"),
    "system/failed.txt": ("systemctl", "--failed", "--no-pager", "--full", "--plain"),
    "system/jobs.txt": ("systemctl", "list-jobs", "--no-pager", "--full", "--plain"),
    "system/timers.txt": ("systemctl", "list-timers", "--all", "--no-pager", "--full"),
    "system/services.txt": (
        *("systemctl", "status", "--no-pager", "--full", "--lines=20"),
        *("vllm.service", "docker.service", "containerd.service", "imgnode-*"),
    ),
    "system/boot-entries.txt": ("bootctl", "--no-pager", "list"),
    "system/processes.txt": ("ps", "axo", "pid,ppid,stat,rss,pcpu,etime,wchan:24,args"),
    "system/memory.txt": ("free", "--wide"),
    "system/disks.txt": ("lsblk", "--output=NAME,SIZE,TYPE,FSTYPE,LABEL,MOUNTPOINTS,RO"),
    "system/space.txt": ("df", "-h"),
    "system/inodes.txt": ("df", "-i"),
    "system/addresses.txt": ("ip", "address"),
    "system/routes.txt": ("ip", "route"),
    "system/sockets.txt": ("ss", "-tulpn"),
    "system/kernel.txt": ("uname", "-a"),
    "docker/version.txt": ("docker", "version"),
    "docker/info.txt": ("docker", "info"),
    "docker/images.txt": ("docker", "images", "--digests"),
    "docker/containers.txt": ("docker", "ps", "--all", "--no-trunc"),
    "docker/vllm.json": ("docker", "inspect", "vllm"),
    "gpu/nvidia-smi.txt": ("nvidia-smi", "-q"),
}
FILES = (
    "etc/os-release",
    "proc/cmdline",
    "proc/meminfo",
    "proc/pressure/*",
    "usr/lib/imgnode/image.json",
    "run/imgnode/*.json",
    "run/imgnode/metrics/*.prom",
    "run/imgnode/quarantine",
    "run/imgnode/maintenance",
    "var/lib/imgnode/gate/history.json",
    "var/lib/imgnode/recover/*",
    "var/lib/imgnode/alert/*.json",
    "var/lib/imgnode/model/*.json",
    "var/lib/imgnode/update/state.json",
)
Run = Callable[..., Finished]


def write(out: Path, root: Path = Path("/"), run: Run = run_program) -> list[str]:
    """Write the archive for its owner alone; return what could not be had. Raises OSError."""
    redactor, top = of_node(root), out.name.partition(".")[0]
    missing: list[str] = []
    temporary = out.with_name(f".{out.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as archive,
        ):
            for name, text in _texts(redactor, root, run, missing):
                _add(archive, f"{top}/{name}", text)
            _add(archive, f"{top}/missing.txt", "".join(f"{one}\n" for one in missing))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return missing


def default_name(now: float) -> str:
    """Return a name that says which node, and when."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return f"imgnode-support-{os.uname().nodename}-{when}.tar.gz"


def _texts(
    redactor: Redactor, root: Path, run: Run, missing: list[str]
) -> Iterator[tuple[str, str]]:
    for name, argv in COMMANDS.items():
        done = run(list(argv), timeout_s=_LIMIT_S)
        told = done.stdout[-_MOST:]
        if told:
            yield name, redactor.text(told)
        else:
            why = " ".join(redactor.text(done.stderr[-500:]).split())
            missing.append(f"{name}: exit code {done.rc}: {why}")
    for pattern in FILES:
        for path in sorted(root.glob(pattern)):
            name = str(path.relative_to(root))
            try:
                if path.is_file():
                    yield f"files/{name}", redactor.text(_end_of(path))
            except OSError as error:
                missing.append(f"files/{name}: {error.strerror}")


def _end_of(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - _MOST, 0))  # 0 below /proc
        return stream.read(_MOST).decode(errors="replace")


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode(errors="replace")
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
    archive.addfile(info, io.BytesIO(data))

"""A machine without a system, for the tests of the installer: a file as its disk, real programs.

Played are systemd-repart (by sfdisk and the mkfs programs) and the mount of `var`.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.install.disks import Disk
from imgnode.install.order import Order
from imgnode.install.report import Identity, Reporter
from imgnode.install.table import Layout, Partition, read_layout
from tests.unit.hostile import Site
from tests.unit.update_node import IMAGE, NEW, Server, Texts

MIB = 1 << 20
SIZE = 64 * MIB
PROGRAMS = (
    *(
        "sfdisk",
        "wipefs",
        "blkdiscard",
        "mkfs.vfat",
        "mkfs.ext4",
        "mcopy",
        "mdel",
        "mdir",
        "mmd",
        "mren",
    ),
    *("mtype", "curl", "prlimit", "gpg", "gpgconf", "gpgv", "zstd"),
)
SEED = {"user-data": "#cloud-config\nhostname: gpu-07\n", "meta-data": "instance-id: i\n"}
ROWS = (
    ("esp", "esp", 8 * MIB),
    ("root-x86-64", f"{IMAGE}_x", MIB),
    ("root-x86-64-verity", f"{IMAGE}_x", MIB),
    ("root-x86-64", "_empty", MIB),
    ("root-x86-64-verity", "_empty", MIB),
    ("linux-generic", "cidata", 2 * MIB),
    ("var", "var", 4 * MIB),
)
_CODES = {
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "root-x86-64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "root-x86-64-verity": "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
    "linux-generic": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "var": "4D21B016-B534-45C2-A9FB-5C16E091FD2D",
}
_genuine = process.run


def with_disk(texts: Texts) -> None:
    """Let the manifest name the partitions of its disk image."""
    rows = [{"type": kind, "label": label, "bytes": size} for kind, label, size in ROWS]
    texts["manifest.json"]["disk"] = {"partitions": rows}


def with_encryption(texts: Texts) -> None:
    """Let the manifest say that nodes encrypt `var` themselves."""
    with_disk(texts)
    disk = texts["manifest.json"]["disk"]
    disk["partitions"] = [one for one in disk["partitions"] if one["type"] != "var"]
    disk["encrypt_var"] = "tpm"


@dataclass
class Machine:
    """`disk` is its disk, `root` the installer's root; `posts` is what the server was told."""

    root: Path
    disk: Path
    server: Server
    ran: list[list[str]] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    mounts: int = 0

    def order(self, releases: str, **changes: Any) -> Order:  # noqa: ANN401
        return Order(**{"releases": releases, "image_id": IMAGE, "seed": SEED, **changes})

    def reporter(self, address: str | None = None) -> Reporter:
        return Reporter(address, Identity("S1", "U1", ("52:54:00:00:00:01",)), lambda _: None)

    def disks(self) -> tuple[Disk, ...]:
        return (Disk(self.disk, SIZE, "Fast", "S9", "nvme"),)

    def run(self, argv: Sequence[str], **options: Any) -> process.Finished:  # noqa: ANN401
        """Play systemd-repart; run the others."""
        self.ran.append(list(argv))
        if argv[0] == "systemd-repart":
            return self._repart(Path(argv[-2].partition("=")[2]))
        return _genuine(argv, **options)

    @contextmanager
    def mounted(self, _disk: Path, _var: object, point: Path) -> Iterator[None]:
        """Let `var` be a folder that lives as long as the disk."""
        self.mounts += 1
        kept = self.disk.with_name("var")
        kept.mkdir(exist_ok=True)
        point.parent.mkdir(parents=True, exist_ok=True)
        if not point.is_symlink():
            point.symlink_to(kept)
        yield

    @property
    def layout(self) -> Layout:
        found = read_layout(self.disk)
        assert found
        return found

    def read(self, offset: int, size: int) -> bytes:
        with self.disk.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    @property
    def var(self) -> Partition:
        found = self.layout.var
        assert found
        return found

    def head(self) -> bytes:
        """Return the beginning of `var`."""
        return self.read(self.var.offset, 4096)

    def encrypt(self) -> bytes:
        """Let `var` look encrypted; return its beginning."""
        with self.disk.open("r+b") as stream:
            stream.seek(self.var.offset)
            stream.write(b"LUKS\xba\xbe".ljust(4096, b"x"))
        return self.head()

    def fat(self, offset: int, name: str) -> str:
        """Return a file of a FAT partition."""
        return _genuine(["mtype", "-i", f"{self.disk}@@{offset}", name], timeout_s=60).stdout

    def entries(self) -> list[str]:
        """Return the names of the boot entries."""
        place = f"{self.disk}@@{self.layout.esp.offset}"
        told = _genuine(["mdir", "-b", "-i", place, "::/EFI/Linux"], timeout_s=60).stdout
        return [line.rsplit("/", 1)[-1] for line in told.splitlines()]

    def labels(self) -> list[str]:
        return [one.label for one in self.layout.roots]

    def _repart(self, folder: Path) -> process.Finished:
        rows = [_values(path) for path in sorted(folder.glob("*.conf"))]
        lines = ["label: gpt"]
        for one in rows:
            size = f"size={int(one['SizeMinBytes']) // 512}, " if "SizeMinBytes" in one else ""
            lines.append(f'{size}type={_CODES[one["Type"]]}, name="{one["Label"]}"')
        argv = ["sfdisk", "--quiet", str(self.disk)]
        subprocess.run(argv, input="\n".join(lines).encode(), check=True, capture_output=True)
        self._formats()
        return process.Finished(0, "", "")

    def _formats(self) -> None:
        esp, var = self.layout.esp, self.layout.var
        place = f"--offset={esp.offset // 512}"
        fat = ["mkfs.vfat", place, str(self.disk), str(esp.bytes // 1024)]
        subprocess.run(fat, check=True, capture_output=True)
        if var:
            ext = ["mkfs.ext4", "-q", "-F", "-E", f"offset={var.offset}", str(self.disk)]
            subprocess.run([*ext, f"{var.bytes // 1024}k"], check=True, capture_output=True)


def encrypting(machine: Machine, site: Site) -> Order:
    """Let the release be one whose nodes encrypt `var`; return an order for it."""
    machine.server.put(NEW, with_encryption)
    site.files.update(machine.server.files)
    return machine.order(site.address)


def _values(path: Path) -> dict[str, str]:
    rows = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key: value for key, _, value in rows}


@contextmanager
def listening(posts: list[dict[str, Any]], *statuses: int) -> Iterator[str]:
    """Give the address of a server that keeps what is posted to it.

    It answers with `statuses` in their order, in the end always with the last (204).
    """
    answers = list(statuses) or [204]

    class Web(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - http.server's name for it
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    web = HTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{web.server_port}/progress"
    finally:
        web.shutdown()
        thread.join()
        web.server_close()

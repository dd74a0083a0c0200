"""A folder that plays a node's root, and the programs that open, mount and fetch layer files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imgnode import download, process
from imgnode.layers.apply import apply
from imgnode.layers.report import Report
from imgnode.payload import ContainerImage, LayerFile, Payload, parse_payload

SERVER = "https://releases.example/stable/"
STEM = "imgbuild-test_2026.1"


def sha(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def content(name: str) -> bytes:
    """Return the bytes of a layer file: 8192 of data, 4096 of hash tree."""
    return (sha(name) * 192).encode()


def layer_file(name: str) -> dict[str, Any]:
    data = content(name)
    root_hash = sha(f"root of {name}")
    return {"root_hash": root_hash, "bytes": len(data), "data_bytes": 8192, "sha256": sha(data)}


def container(count: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any key
    layers: list[dict[str, Any]] = []
    chain = ""
    for number in range(count):
        diff = sha(f"diff {number}")
        chain = sha(f"sha256:{chain} sha256:{diff}") if chain else diff
        layers.append(
            {
                "title": f"part{number}",
                "diff_id": diff,
                "chain_id": chain,
                "bytes": 1000 + number,
                "root_hash": sha(f"root of part{number}"),
            }
        )
    diffs = [f"sha256:{layer['diff_id']}" for layer in layers]
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}})
    values = {
        "repository": "imgnode/vllm",
        "tag": "2026.1",
        "digest": sha("manifest"),
        "image_id": sha(config),
        "config": config,
        "layers": layers,
    }
    return {**values, **changes}


def payload(count: int = 2, *models: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    names = [*(f"part{number}" for number in range(count)), *models]
    bundles = [
        {"model": name, "revision": "r1", "root_hash": sha(f"root of {name}")} for name in models
    ]
    return {
        "schema_version": 1,
        "container": container(count) if count else None,
        "models": bundles,
        "files": [layer_file(name) for name in names],
        **changes,
    }


def image(count: int, **changes: Any) -> ContainerImage:  # noqa: ANN401
    found = parse_payload(payload(count, container=container(count, **changes))).container
    assert found is not None
    return found


class Node:
    """A node's root, and what its programs would do; `asked` has every command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[list[str]] = []
        self.open: dict[str, Path] = {}
        self.mounted: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.in_use: set[str] = set()
        self.refused: set[str] = set()
        self.labels = ["ESP", STEM, STEM, "_empty", "_empty", "cidata", "var", ""]
        self.served: dict[str, bytes] = {}
        self.curl: Callable[[Path, bytes], process.Finished] = _whole
        self.seconds = 0.0
        self._mountinfo(["/", "/run"])
        (root / "usr/lib/imgnode").mkdir(parents=True)
        self.image()
        self.set(payload())

    def image(self, **facts: Any) -> None:  # noqa: ANN401
        known = {"image_id": "imgbuild-test", "version": "2026.1", "releases": SERVER}
        self.write("usr/lib/imgnode/image.json", json.dumps({**known, **facts}))

    def set(self, values: dict[str, Any]) -> None:
        self.write("usr/lib/imgnode/payload.json", json.dumps(values))

    def payload(self) -> Payload:
        return parse_payload(json.loads(self.text("usr/lib/imgnode/payload.json")))

    def file(self, name: str) -> LayerFile:
        return LayerFile(**layer_file(name))

    def path(self, name: str) -> Path:
        return self.store / self.file(name).name

    @property
    def store(self) -> Path:
        return self.root / "var/lib/imgnode/layers"

    @property
    def docker(self) -> Path:
        return self.root / "var/lib/docker"

    def have(self, *names: str) -> None:
        """Put good files into the store."""
        self.store.mkdir(parents=True, exist_ok=True)
        for name in names:
            self.path(name).write_bytes(content(name))

    def serve(self, *names: str) -> None:
        """Put good files on the release server."""
        for name in names:
            self.served[self.file(name).name] = content(name)

    def damage(self, name: str) -> None:
        """Let the kernel meet a bad block of an open file."""
        data = self.path(name).read_bytes()
        self.path(name).write_bytes(b"?" + data[1:])
        self.damaged.add(f"imgnode-{self.file(name).root_hash[:16]}")

    def apply(self) -> Report:
        return apply(self.root)

    def reboot(self) -> None:
        for path in (self.root / "run").rglob("*"):
            if path.is_file():
                path.unlink()
        self.open.clear()
        self.mounted.clear()
        self.damaged.clear()
        self._mountinfo(["/", "/run"])

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    def count(self, program: str) -> int:
        return sum(Path(argv[0]).name == program for argv in self.asked)

    def run(self, argv: Sequence[str], *, timeout_s: float) -> process.Finished:
        assert timeout_s > 0
        argv = argv[2:] if argv[0] == "prlimit" else argv
        self.asked.append(list(argv))
        name = Path(argv[0]).name.replace("-", "_")
        done: process.Finished = getattr(self, f"_{name}")(*argv[1:])
        return done

    def _systemd_veritysetup(self, verb: str, name: str, *rest: str) -> process.Finished:
        if verb == "detach":
            if name in self.in_use:
                return process.Finished(1, "", "Device is busy")
            del self.open[name]
            self.damaged.discard(name)
            return process.Finished(0, "", "")
        data, tree, root_hash, options = rest
        assert data == tree
        assert options == "superblock=yes,hash-offset=8192"
        good = sha(Path(data).read_bytes()) in {one.sha256 for one in self.payload().files}
        if name in self.refused or not good or not Path(data).name.startswith(root_hash):
            return process.Finished(1, "", "Failed to load\nverity superblock")
        self.open[name] = Path(data)
        return process.Finished(0, "", "")

    def _mount(self, *words: str) -> process.Finished:
        assert words[:4] == ("-t", "erofs", "-o", "ro,nodev")
        device, place = words[4:]
        assert device.removeprefix("/dev/mapper/") in self.open
        self.mounted[place] = device
        self._mountinfo(["/", "/run", *self.mounted])
        return process.Finished(0, "", "")

    def _umount(self, place: str) -> process.Finished:
        del self.mounted[place]
        self._mountinfo(["/", "/run", *self.mounted])
        return process.Finished(0, "", "")

    def _dmsetup(self, *_: str) -> process.Finished:
        lines = [f"{name}: 0 16 verity {'CV'[name not in self.damaged]}" for name in self.open]
        return process.Finished(0, "root: 0 99 verity V\n" + "\n".join(lines) + "\n", "")

    def _lsblk(self, *words: str) -> process.Finished:
        if "NAME,TYPE" in words:
            return process.Finished(0, "/dev/dm-0 crypt\n/dev/vda2 part\n/dev/vda disk\n", "")
        assert words[-1] == "/dev/vda"
        return process.Finished(0, "\n".join(self.labels) + "\n", "")

    def _systemctl(self, *_: str) -> process.Finished:
        return process.Finished(0, "", "")

    def _curl(self, *words: str) -> process.Finished:
        part, url = Path(words[words.index("--output") + 1]), words[-1]
        base, _, name = url.rpartition("/")
        assert base == f"{SERVER}layers"
        if name not in self.served:
            return process.Finished(22, "404", "curl: (22) The requested URL returned error: 404")
        return self.curl(part, self.served[name])

    def _mountinfo(self, points: list[str]) -> None:
        lines = [f"{n} 1 0:1 / {point} rw - ext4 x rw" for n, point in enumerate(points)]
        self.write("proc/self/mountinfo", "\n".join(lines) + "\n")

    def mount_below(self, point: Path) -> None:
        self._mountinfo(["/", "/run", str(point)])

    def pass_time(self, seconds: float) -> None:
        self.seconds += seconds


def _whole(part: Path, data: bytes) -> process.Finished:
    """Play a server that goes on where the part ends."""
    have = part.stat().st_size if part.exists() else 0
    with part.open("ab") as stream:
        stream.write(data[have:])
    return process.Finished(0, "206" if have else "200", "")


def play(root: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Return a node below `root`, and let its programs stand in for the real ones."""
    played = Node(root)
    monkeypatch.setattr(process, "run", played.run)
    clock = SimpleNamespace(sleep=played.pass_time, monotonic=lambda: played.seconds)
    monkeypatch.setattr(download, "time", clock)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return played

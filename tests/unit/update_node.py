"""A node and a release server as folders, for the tests of updates. zstd is the real one.

Signing, gpgv and downloads are played by `play`; tests/unit/hostile.py has the real ones.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgnode import process
from imgnode.release.signature import BadSignature
from imgnode.release.sums import sums_text
from imgnode.release.verity import write_tree
from imgnode.update import offer, rebuild
from imgnode.update import stage as staging
from imgnode.update.facts import Facts, read_facts

BASE = "https://releases.example"
IMAGE, OLD, NEW = "imgbuild-test", "2026.1", "2026.2"
SALT, UUID = "ab" * 32, "11111111-2222-3333-4444-555555555555"
_BLOCK, _SECTOR = 4096, 512


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blocks(seed: str, count: int = 64) -> bytes:
    """Return bytes that do not compress, so that a patch is worth something."""
    made = [hashlib.sha512(f"{seed}{n}".encode()).digest() for n in range(count * _BLOCK // 64)]
    return b"".join(made)


OLD_ROOT = blocks("root")
NEW_ROOT = OLD_ROOT[: 20 * _BLOCK] + blocks("other", 1) + OLD_ROOT[21 * _BLOCK :]
OLD_UKI, NEW_UKI = blocks("uki", 8), blocks("uki", 8)[:-64] + blocks("x", 1)[:64]


_MADE: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {}
Texts = dict[str, dict[str, Any]]  # release.json, manifest.json and SHA256SUMS, before signing


def unsigned(_: bytes) -> bytes:
    """Return what looks like a signature."""
    return b"-----BEGIN PGP SIGNATURE-----\nx\n-----END PGP SIGNATURE-----\n"


@dataclass
class Server:
    """What is served, by its path; `asked` lists what was fetched."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bad_signature: bool = False
    layers: dict[str, bytes] = field(default_factory=dict)
    sign: Callable[[bytes], bytes] = unsigned

    def put(
        self,
        version: str,
        alter: Callable[[Texts], None] = lambda _: None,
        **channel: Any,  # noqa: ANN401 - any value of the file
    ) -> None:
        """Publish a version and let the channel name it; `alter` comes before the signing."""
        if version not in _MADE:
            _MADE[version] = self._parts(version)
        files, release = copy.deepcopy(_MADE[version])
        layers = [
            {"root_hash": name, "bytes": len(data), "data_bytes": len(data), "sha256": sha(data)}
            for name, data in self.layers.items()
        ]
        manifest = {
            "image_id": IMAGE,
            "version": version,
            "root_hash": release["root_hash"],
            "payload": {"schema_version": 1, "container": None, "models": [], "files": layers},
        }
        digests: dict[str, str] = {}
        alter({"release.json": release, "manifest.json": manifest, "SHA256SUMS": digests})
        files["release.json"] = json.dumps(release).encode()
        files["manifest.json"] = json.dumps(manifest).encode()
        digests |= {name: sha(data) for name, data in files.items()}
        digests |= {part["install_as"]: part["sha256"] for part in release["parts"]}
        files["SHA256SUMS"] = sums_text(digests).encode()
        files["SHA256SUMS.gpg"] = self.sign(files["SHA256SUMS"])
        self.files |= {f"layers/{name}.erofs": data for name, data in self.layers.items()}
        self.files |= {f"{IMAGE}/{version}/{name}": data for name, data in files.items()}
        self.channel(version, sums_sha256=sha(files["SHA256SUMS"]), **channel)

    def channel(self, version: str, **changes: Any) -> None:  # noqa: ANN401
        """Write the channel's file."""
        values = {
            "schema_version": 1,
            "image_id": IMAGE,
            "channel": "stable",
            "serial": 7,
            "version": version,
            "minimum": None,
            "created": datetime.now(UTC).isoformat(),
            "expires": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
            **changes,
        }
        name = values["channel"] if "channel" not in changes else "stable"
        text = f"{json.dumps(values)}\n".encode()
        self.files[f"channels/{IMAGE}/{name}.json.asc"] = text + self.sign(text)

    def edit(self, version: str, name: str, data: bytes) -> None:
        """Change a file of a version, as somebody does who cannot sign."""
        self.files[f"{IMAGE}/{version}/{name}"] = data

    def _parts(self, version: str) -> tuple[dict[str, bytes], dict[str, Any]]:
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        tree = work / "tree"
        (work / "root").write_bytes(NEW_ROOT)
        root_hash = write_tree(work / "root", tree, salt=bytes.fromhex(SALT), uuid=uuid.UUID(UUID))
        stem = f"{IMAGE}_{version}"
        halves = [uuid.UUID(root_hash[:32]), uuid.UUID(root_hash[32:])]
        files = {
            "root.erofs.zst": zstd(NEW_ROOT, work),
            "root.verity.zst": zstd(tree.read_bytes(), work),
            "uki.efi.zst": zstd(NEW_UKI, work),
            f"root.from-{OLD}.zstpatch": zstd(NEW_ROOT, work, OLD_ROOT),
            f"uki.from-{OLD}.zstpatch": zstd(NEW_UKI, work, OLD_UKI),
        }
        rows = [
            ("root.erofs", NEW_ROOT, f"{stem}_{halves[0]}.root.raw", OLD_ROOT),
            ("root.verity", tree.read_bytes(), f"{stem}_{halves[1]}.verity.raw", b""),
            ("uki.efi", NEW_UKI, f"{stem}.efi", OLD_UKI),
        ]
        parts = [
            {
                **entry(name, data),
                "install_as": target,
                "full": entry(f"{name}.zst", files[f"{name}.zst"]),
                "patches": [_patch(f"{name.partition('.')[0]}.from-{OLD}.zstpatch", files, old)]
                if old
                else [],
            }
            for name, data, target, old in rows
        ]
        release = {
            "schema_version": 1,
            "image_id": IMAGE,
            "version": version,
            "root_hash": root_hash,
            "verity": {"salt": SALT, "uuid": UUID},
            "parts": parts,
            "disk": None,
        }
        return files, release


def entry(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "bytes": len(data), "sha256": sha(data)}


def _patch(name: str, files: dict[str, bytes], old: bytes) -> dict[str, Any]:
    data = files[name]
    return {
        **entry(name, data),
        "from_version": OLD,
        "from_sha256": sha(old),
        "pieces": [{"bytes": len(data), "old_start": 0, "old_bytes": len(old)}],
    }


def zstd(data: bytes, work: Path, old: bytes | None = None) -> bytes:
    (work / "in").write_bytes(data)
    argv = ["zstd", "--quiet", "--force", "-3", str(work / "in"), "-o", str(work / "out")]
    if old is not None:
        (work / "old").write_bytes(old)
        argv += ["--long=31", f"--patch-from={work / 'old'}"]
    subprocess.run(argv, check=True)
    return (work / "out").read_bytes()


@dataclass
class Node:
    """A node that runs OLD from a counted-down or good entry; its programs are played."""

    root: Path
    server: Server
    labels: list[str] = field(default_factory=lambda: [f"{IMAGE}_{OLD}", "_empty"])
    slot_bytes: int = 1 << 20
    ran: list[list[str]] = field(default_factory=list)
    genuine: tuple[str, ...] = ("zstd",)

    @property
    def facts(self) -> Facts:
        return read_facts(self.root)

    @property
    def stage(self) -> Path:
        return self.root / staging.STAGE

    @property
    def entries(self) -> list[str]:
        return sorted(path.name for path in (self.root / "boot/EFI/Linux").iterdir())

    def image(self, **changes: Any) -> None:  # noqa: ANN401 - any value of image.json
        values = {
            "image_id": IMAGE,
            "version": OLD,
            "epoch": 0,
            "releases": BASE,
            "updates": {"channel": "stable", "apply": "write"},
            **changes,
        }
        path = self.root / "usr/lib/imgnode/image.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def run(self, argv: Sequence[str], **_: object) -> process.Finished:
        self.ran.append(list(argv))
        name = Path(argv[0]).name
        if name == "lsblk":
            return process.Finished(0, "/dev/dm-0 crypt\n/dev/vda2 part\n/dev/vda disk\n", "")
        if name == "sfdisk":
            return process.Finished(0, self._sfdisk(), "")
        if name in self.genuine:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            return process.Finished(done.returncode, done.stdout, done.stderr)
        if name == "systemd-sysupdate" and argv[-1] == "vacuum":
            assert "--instances-max=1" in argv
            self.labels[1] = "_empty"
        elif name == "systemd-sysupdate":
            if self.labels[1] == f"{IMAGE}_{argv[-1]}":  # as systemd 252 does
                return process.Finished(1, "", "No available partition of a suitable size found.")
            self._sysupdate(argv[-1])
        return process.Finished(0, "", "")

    def _sfdisk(self) -> str:
        types = ("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5")
        rows = [
            {
                "node": str(self.device(slot, kind)),
                "name": label,
                "type": kind_type,
                "size": self.slot_bytes // _SECTOR,
            }
            for slot, label in enumerate(self.labels)
            for kind, kind_type in zip(("root", "verity"), types, strict=True)
        ]
        esp = {"node": "/dev/vda1", "type": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "size": 9}
        return json.dumps({"partitiontable": {"sectorsize": _SECTOR, "partitions": [esp, *rows]}})

    def device(self, slot: int, kind: str) -> Path:
        return self.root / f"dev/slot{slot}-{kind}"

    def _sysupdate(self, version: str) -> None:
        """Do what systemd-sysupdate does with the definitions that it was given."""
        folder, stem = self.stage / version, f"{IMAGE}_{version}"
        for path in folder.iterdir():
            if path.name.endswith(".root.raw"):
                shutil.copyfile(path, self.device(1, "root"))
            elif path.name.endswith(".verity.raw"):
                shutil.copyfile(path, self.device(1, "verity"))
        self.labels[1] = stem
        shutil.copyfile(folder / f"{stem}.efi", self.root / f"boot/EFI/Linux/{stem}+3-0.efi")


def furnish(root: Path) -> Node:
    """Return a node and its server, which has published nothing yet."""
    server = Server(root / "served")
    server.folder.mkdir(parents=True)
    node = Node(root / "node", server)
    node.image()
    for folder in ("dev/mapper", "boot/EFI/Linux", "run", "var/lib/imgnode", "proc/self"):
        (node.root / folder).mkdir(parents=True)
    (node.root / "proc/self/mountinfo").write_text("")
    (node.root / "dev/mapper/root").write_bytes(OLD_ROOT)
    (node.root / f"boot/EFI/Linux/{IMAGE}_{OLD}.efi").write_bytes(OLD_UKI)
    return node


def play(root: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Return a node and its server; what they fetch, sign and start is played."""
    node = furnish(root)
    server = node.server

    def get(url: str, target: Path, limit: int) -> str | None:
        path = url.removeprefix(f"{BASE}/")
        server.asked.append(path)
        data = server.files.get(path)
        if data is None:
            return "404"
        target.write_bytes(data[:limit])
        return None if len(data) <= limit else "too much"

    def check(*_: object) -> None:
        if server.bad_signature:
            raise BadSignature("its key is not in the keyring")

    monkeypatch.setattr(offer, "fetch_small", get)
    monkeypatch.setattr(offer, "_check", check)
    monkeypatch.setattr(rebuild, "download", lambda url, part, size, _: get(url, part, size))
    monkeypatch.setattr(process, "run", node.run)
    return node

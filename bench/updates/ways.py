"""The three ways to a new version, each once, with what it costs the node."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.place import Place, say
from bench.stopwatch import measure
from bench.updates.cases import NEW, OLD, Pair, Version
from bench.updates.server import Counting, serve
from builder.core.errors import UserError
from builder.core.files import link_or_copy, remove_tree
from builder.core.hashing import sha256_file
from builder.release.repository import read_release
from imgnode.release.signature import KEYRING

_MAKE_S = 1800.0
_UNKNOWN = "2025.1"  # a version that no patch starts from
_INDEXES, _STORE = "casync", "casync/default.castr"
_PARTS = ("root.erofs", "uki.efi")  # all ways work out the hash tree on the node


@dataclass(frozen=True)
class Cost:
    """What one way takes of a node: bytes to download, time, peak of anonymous memory.

    `layers` are those of the bytes that whole layer files are.
    """

    bytes: int
    layers: int
    seconds: float
    cpu_seconds: float
    memory: int


@dataclass(frozen=True)
class Row:
    """A case, measured.

    `whole` are the bytes of the new version's compressed files, `new_layers` of the layer
    files that the old one lacks, `root_bytes` of the root image.
    """

    pair: Pair
    whole: int
    new_layers: int
    root_bytes: int
    ours: Cost
    full: Cost
    casync: Cost


def compare(place: Place, pair: Pair, folder: Path) -> Row:
    """Measure all ways of a case; what they leave in `folder` is removed. Raises UserError."""
    release = read_release(pair.repository / pair.new.manifest.image_id / NEW)
    layers = sum(file.bytes for file in pair.new.manifest.payload.files)
    _publish_chunks(place, pair)
    with serve(pair.repository) as server:
        race = Race(place, pair, folder, server)
        return Row(
            pair,
            whole=sum(part.full.bytes for part in release.parts) + layers,
            new_layers=sum(path.stat().st_size for path in _differing(pair)[len(_PARTS) :]),
            root_bytes=release.part("root.erofs").bytes,
            ours=race.update("patches", OLD),
            full=race.update("full", _UNKNOWN),
            casync=race.casync(),
        )


def _publish_chunks(place: Place, pair: Pair) -> None:
    """Put the new version's files that the old one lacks into casync's store."""
    store = pair.repository / _STORE
    (pair.repository / _INDEXES).mkdir(exist_ok=True)
    for path in _differing(pair):
        index = pair.repository / _INDEXES / f"{path.name}.caibx"
        place.runner.run(["casync", "make", f"--store={store}", index, path], timeout_s=_MAKE_S)


def _differing(pair: Pair) -> list[Path]:
    """Return the new version's root, UKI, and layers that the old one has not."""
    had = set(_layers(pair.old))
    new = [path for name, path in _layers(pair.new).items() if name not in had]
    return [*(pair.new.folder / name for name in _PARTS), *new]


def _layers(version: Version) -> dict[str, Path]:
    files = version.manifest.payload.files
    return {file.name: version.folder / "layers" / file.name for file in files}


@dataclass(frozen=True)
class Race:
    """The ways of one case; each begins with a node made anew."""

    place: Place
    pair: Pair
    folder: Path
    server: Counting

    def update(self, name: str, version: str) -> Cost:
        """Let the node's own code fetch the new version, as a node that runs `version`."""
        self._node(version)
        return self._measured(name, ["update", self.folder])

    def casync(self) -> Cost:
        """Let casync fetch what differs, with all files of the old version as seeds."""
        self._node(OLD)
        new, old = self.pair.new, self.pair.old
        release = read_release(self.pair.repository / new.manifest.image_id / NEW)
        gone = [path for name, path in _layers(old).items() if name not in _layers(new)]
        files = [
            {
                "index": f"{self.server.address}/{_INDEXES}/{path.name}.caibx",
                "target": str(self.folder / path.name),
                "seeds": [str(old.folder / path.name)] if path.name in _PARTS else _words(gone),
            }
            for path in _differing(self.pair)
        ]
        tree = {
            "target": str(self.folder / "tree"),
            "root_hash": release.root_hash,
            **release.verity.model_dump(),
        }
        plan = {"store": f"{self.server.address}/{_STORE}", "files": files, "tree": tree}
        path = self.folder / "plan.json"
        path.write_text(json.dumps(plan))
        cost = self._measured("casync", ["casync", self.folder, path])
        for file in _differing(self.pair):
            if sha256_file(self.folder / file.name) != sha256_file(file):
                raise UserError(f"casync made another {file.name}")
        return cost

    def _node(self, version: str) -> None:
        """Make the root of a node that runs a version, the old one or one without files."""
        remove_tree(self.folder)
        for name in ("boot/EFI/Linux", "dev/mapper", "run", "var/lib/imgnode/layers"):
            (self.folder / name).mkdir(parents=True)
        manifest = self.pair.old.manifest
        facts = {
            "image_id": manifest.image_id,
            "version": version,
            "epoch": 0,
            "releases": self.server.address,
            "updates": {"channel": "stable", "apply": "stage"},
        }
        own = self.folder / "usr/lib/imgnode"
        own.mkdir(parents=True)
        (own / "image.json").write_text(json.dumps(facts))
        (self.folder / KEYRING).write_bytes(self.pair.keyring.read_bytes())
        if version == OLD:
            self._lay(_root_files(self.pair))

    def _lay(self, files: Mapping[str, Path]) -> None:
        for name, source in files.items():
            link_or_copy(self.place.runner, source, self.folder / name)

    def _measured(self, name: str, words: Sequence[str | Path]) -> Cost:
        self.server.taken()
        argv: list[str | Path] = [sys.executable, "-m", "bench.updates.node", *words]
        done = measure(self.place.runner, argv, cwd=self.place.project.root)
        sent, peak = self.server.taken(), done.memory.total
        cost = Cost(sent.total(), sent["layers"], done.seconds, done.cpu_seconds, peak)
        say(f"{self.pair.case.name}, {name}: {cost}")
        return cost


def _root_files(pair: Pair) -> dict[str, Path]:
    """Return what a node of the old version has, and where."""
    stem = f"{pair.old.manifest.image_id}_{OLD}"
    found = {
        "dev/mapper/root": pair.old.folder / "root.erofs",
        f"boot/EFI/Linux/{stem}.efi": pair.old.folder / "uki.efi",
    }
    layers = _layers(pair.old).items()
    return found | {f"var/lib/imgnode/layers/{name}": path for name, path in layers}


def _words(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]

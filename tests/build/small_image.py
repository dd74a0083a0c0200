"""A small image, made without a build: real hash tree, real digests, a layer; and its keys."""

from __future__ import annotations

import hashlib
import random
import uuid
from dataclasses import dataclass
from pathlib import Path

from builder.model.artifacts import Artifact, DiskImage, Manifest
from builder.model.container import LayerFile, Payload
from imgnode.release.verity import BLOCK, write_tree
from tests.build.command import Place

IMAGE_ID = "imgbuild-tiny"
_BLOCKS = 256


def make_image(folder: Path, version: str, *, layers: tuple[int, ...] = (1,)) -> Path:
    """Write an image of a megabyte; versions differ in some blocks, layers by their number."""
    folder.mkdir(parents=True)
    shared = random.Random("tiny").randbytes(BLOCK * _BLOCKS)  # noqa: S311 - test data
    own = random.Random(version).randbytes(3 * BLOCK)  # noqa: S311
    (folder / "root.erofs").write_bytes(shared[: 20 * BLOCK] + own + shared[20 * BLOCK :])
    salt = hashlib.sha256(version.encode()).digest()
    id_ = uuid.uuid5(uuid.NAMESPACE_OID, version)
    root_hash = write_tree(folder / "root.erofs", folder / "root.verity", salt=salt, uuid=id_)
    words = f"roothash={root_hash} ro\n".encode()
    (folder / "uki.efi").write_bytes(shared[: 30 * BLOCK] + words + shared[: 30 * BLOCK])
    (folder / "disk.raw").write_bytes(own + b"\0" * 64 * BLOCK)
    files = tuple(_layer(folder, number) for number in layers)
    (folder / "manifest.json").write_text(_manifest(folder, version, root_hash, files))
    return folder


def _layer(folder: Path, number: int) -> LayerFile:
    data = random.Random(number).randbytes(50_000)  # noqa: S311
    digest = hashlib.sha256(data).hexdigest()
    (folder / "layers").mkdir(exist_ok=True)
    (folder / "layers" / f"{digest}.erofs").write_bytes(data)
    return LayerFile(root_hash=digest, bytes=len(data), data_bytes=len(data) - 1, sha256=digest)


def _manifest(folder: Path, version: str, root_hash: str, layers: tuple[LayerFile, ...]) -> str:
    names = ("root.erofs", "root.verity", "uki.efi")
    made = Manifest(
        image_id=IMAGE_ID,
        version=version,
        profile="tiny",
        site="debian",
        epoch=0,
        root_hash=root_hash,
        kernel_release="6.1",
        root_bytes=(folder / "root.erofs").stat().st_size,
        root_slot_bytes=1 << 30,
        inputs={},
        payload=Payload(container=None, models=(), files=layers),
        disk=DiskImage(name="disk.raw", bytes=1, partitions=()),
        artifacts=tuple(_artifact(folder / name) for name in names),
        packages=(),
    )
    return made.model_dump_json(indent=1) + "\n"


def _artifact(path: Path) -> Artifact:
    data = path.read_bytes()
    return Artifact(name=path.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Press:
    """A project, a folder of keys and a repository; runs the real commands."""

    place: Place

    @property
    def repository(self) -> Path:
        return self.place.top / "repo"

    def secret(self, name: str) -> Path:
        return self.place.top / "keys" / f"{name}.secret.asc"

    def public(self, name: str) -> Path:
        return self.place.top / "keys" / f"{name}.gpg"

    def image(self, version: str, **more: tuple[int, ...]) -> Path:
        """Return the folder of a small image, made where it is not there yet."""
        folder = self.place.top / "images" / version
        return folder if folder.exists() else make_image(folder, version, **more)

    def key(self, name: str, *words: str) -> None:
        """Make a key."""
        folder = str(self.place.top / "keys")
        self.place.run("keys", "new", "--to", folder, "--name", name, *words).done()

    def words(self, version: str, *more: str, key: str = "one") -> tuple[str, ...]:
        """Return the command line that releases a version."""
        to = ("--to", str(self.repository), "--key", str(self.secret(key)))
        return ("release", str(self.image(version)), *to, *more)

    def release(self, version: str, *more: str, key: str = "one") -> None:
        """Release a version of the small image."""
        self.place.run(*self.words(version, *more, key=key)).done()

    def folder(self, version: str) -> Path:
        """Return the folder of a released version."""
        return self.repository / IMAGE_ID / version

    def channel(self, name: str) -> Path:
        """Return the file of a channel."""
        return self.repository / "channels" / IMAGE_ID / f"{name}.json.asc"

    def verify(self, *more: str, key: str = "one", where: str | Path | None = None) -> list[str]:
        """Check the repository; return what is bad with it. The command must end as it says."""
        words = ("verify", str(where or self.repository), "--keyring", str(self.public(key)))
        ended = self.place.run(*words, *more)
        assert "Traceback" not in ended.err, ended.err
        bad = [line for line in ended.out.splitlines() if line.startswith("BAD: ")]
        assert ended.code == (1 if bad else 0), ended
        assert bad or "good: " in ended.out
        return [line.removeprefix("BAD: ") for line in bad]

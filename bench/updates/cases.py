"""What changes between two versions, and how the two images of a case are made."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.imgbuild import copy_rooms
from bench.place import SITE, Place, say
from builder.core.errors import UserError
from builder.core.files import remove_tree
from builder.lock.store import write_lock
from builder.model.artifacts import Manifest
from builder.model.lock import Lock

OLD, NEW = "2026.1", "2026.2"
CHANNEL = "stable"
_BUILD_S = 3600.0
_WEEK_S = 7 * 24 * 3600
_OLD_RELEASE = "n=bookworm"  # the last point release; security updates are in other suites
_GPU_OS = {
    "config/profiles/a100-os.yaml": """\
extends: a100
description: profile a100 without its container
container: null
"""
}
_DRIVER = "src:linux src:linux-signed-amd64 src:nvidia-graphics-drivers"


@dataclass(frozen=True)
class Edit:
    """One change of the new version: in a file of the project, a text becomes another."""

    file: str
    before: str
    after: str

    def make(self, project: Path) -> None:
        """Change the file. Raises UserError when it has no such text."""
        path = project / self.file
        text = path.read_text()
        if self.before not in text:
            raise UserError(f"{path}: has no {self.before!r}", hint="adapt bench/updates/cases.py")
        path.write_text(text.replace(self.before, self.after))


_SETTING = Edit(
    "overlays/base/usr/lib/systemd/journald.conf.d/50-imgnode.conf.j2",
    "RateLimitBurst=10000",
    "RateLimitBurst=20000",
)
# A stand-in for vLLM, which takes ten minutes to build: real wheels in layers, one of them new.
_BOXED = {
    "config/profiles/boxed.yaml": """\
extends: bare
description: a container in three layers
container: recipe:boxed
""",
    "image/containers/boxed/recipe.yaml": """\
description: transformers and what it needs
packages: [python3]
requirements: [transformers==5.23.0]
layers:
  - {name: libraries, wheels: ['*']}
  - {name: top, wheels: [transformers]}
entrypoint: [python3]
""",
}
_TOP_LAYER = Edit("image/containers/boxed/recipe.yaml", "==5.23.0", "==5.24.0")


@dataclass(frozen=True)
class Case:
    """One row.

    `goal` is a share of the compressed full image. `older` are the packages, as a pin names
    them, of which the old version has those of the last point release. `adds` are files that
    the project of both versions has besides.
    """

    name: str
    profile: str
    goal: float | None = None
    older: str = ""
    adds: Mapping[str, str] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()


CASES = {
    "overlay": Case("one configuration overlay", "bare", 0.003, edits=(_SETTING,)),
    "library": Case("security update of a library", "bare", 0.025, "src:openssl"),
    "driver": Case("kernel and GPU driver", "a100-os", 0.35, _DRIVER, _GPU_OS),
    "container": Case("top layer of a container", "boxed", adds=_BOXED, edits=(_TOP_LAYER,)),
    "everything": Case("everything", "bare", None, "*", edits=(_SETTING,)),
}


@dataclass(frozen=True)
class Version:
    """A built and released version."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Pair:
    """The two versions of a case, and the repository that has both."""

    case: Case
    repository: Path
    keyring: Path
    old: Version
    new: Version

    @property
    def changed(self) -> list[str]:
        """Packages that differ, each with its two versions."""
        before = {one.name: one.version for one in self.old.manifest.packages}
        after = {one.name: one.version for one in self.new.manifest.packages}
        names = sorted(before.keys() | after.keys())
        return [
            f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}"
            for name in names
            if before.get(name) != after.get(name)
        ]


@dataclass(frozen=True)
class Workshop:
    """Makes the versions of one case below `folder`."""

    place: Place
    case: Case
    folder: Path

    @property
    def project(self) -> Path:
        """The copy of the project, which changes between the two builds."""
        return self.folder / "project"

    def pair(self) -> Pair:
        """Build and release both versions. Raises UserError."""
        self.clear()
        copy_rooms(self.place.project.root, self.project)
        for name, text in self.case.adds.items():
            path = self.project / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self._imgbuild("keys", "new", "--to", self.folder / "keys")
        site = self.project / "config/sites" / f"{SITE}.yaml"
        plain = site.read_text()
        if self.case.older:
            site.write_text(_with_pin(plain, self.case.older))
        old_lock = self._lock(_WEEK_S if self.case.older else 0)
        old = self._version(OLD)
        site.write_text(plain)
        for edit in self.case.edits:
            edit.make(self.project)
        if self._lock().packages == old_lock.packages and self.case.older:
            fact = f"{self.case.name}: the mirror has no two versions of {self.case.older}"
            raise UserError(fact, hint="wait for the next update, or name other packages")
        new = self._version(NEW)
        (keyring,) = (self.folder / "keys").glob("*.gpg")
        return Pair(self.case, self._repository, keyring, old, new)

    @property
    def _repository(self) -> Path:
        return self.folder / "repository"

    def _lock(self, age_s: int = 0) -> Lock:
        """Lock the project as it stands; return the lock, made as if so many seconds ago."""
        path = self.project / "config/locks" / f"{self.case.profile}.lock.json"
        self._imgbuild("lock", "--profile", self.case.profile)
        lock = Lock.model_validate_json(path.read_text())
        write_lock(path, lock.model_copy(update={"epoch": lock.epoch - age_s}))
        return lock

    def _version(self, version: str) -> Version:
        folder = self.folder / version
        say(f"{self.case.name}: building {version}")
        words = ("--profile", self.case.profile, "--version", version, "--out", folder)
        self._imgbuild("build", *words)
        (folder / "disk.raw").unlink()
        (key,) = (self.folder / "keys").glob("*.secret.asc")
        to = ("--to", self._repository, "--key", key, "--channel", CHANNEL)
        self._imgbuild("release", folder, *to)
        text = (folder / "manifest.json").read_text()
        return Version(folder, Manifest.model_validate_json(text))

    def _imgbuild(self, *words: str | Path) -> None:
        command = Path(sys.executable).with_name("imgbuild")
        env = {
            "IMGBUILD_PROJECT": str(self.project),
            "IMGBUILD_CACHE": str(self.place.project.cache),
        }
        self.place.runner.run([command, *words], env=env, timeout_s=_BUILD_S)

    def clear(self) -> None:
        """Remove all that was made here."""
        remove_tree(self.folder)


def _with_pin(site: str, packages: str) -> str:
    """Return a site file that takes packages from the last point release."""
    values = yaml.safe_load(site)
    values["pins"].append({"packages": packages, "release": _OLD_RELEASE})
    return yaml.safe_dump(values, sort_keys=False)

"""Stand-ins for the doors to the outside, and small whole hand-over values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.core.cache import Cache
from builder.core.context import Context
from builder.core.events import Event, Note
from builder.core.paths import Project
from builder.core.process import Finished, Runner
from builder.core.sandbox import Sandbox
from builder.model.artifacts import Identity, RootImage
from builder.model.lock import Lock, LockedArchive, LockedPackage, LockedSuite
from builder.model.profile import Profile
from builder.model.site import Site
from builder.model.spec import InitrdRecipe, Spec

Answer = Callable[[list[str]], str]
EPOCH = 1767225600  # 2026-01-01
IDENTITY = Identity(image_id="imgbuild-cpu", version="2026.1", epoch=EPOCH)


class FakeRunner(Runner):
    """Starts nothing: notes each command (without its bubblewrap) and asks `answer` for stdout."""

    def __init__(self, answer: Answer = lambda _: "") -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.envs: list[dict[str, str]] = []
        self._answer = answer

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,  # noqa: ARG002
        timeout_s: float | None = None,  # noqa: ARG002
        stdin: str | None = None,  # noqa: ARG002
        ok: Sequence[int] = (0,),  # noqa: ARG002
        called: str | None = None,  # noqa: ARG002
    ) -> Finished:
        words = [str(word) for word in argv]
        if words[0] == "bwrap":
            words = words[words.index("--") + 1 :]
        self.calls.append(words)
        self.envs.append(dict(env or {}))
        return Finished(self._answer(words), "")


class Events(list[Event]):
    """A sink that keeps what it is told."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def notes(self) -> list[str]:
        return [event.text for event in self if isinstance(event, Note)]


def context(folder: Path, runner: Runner | None = None, project: Path | None = None) -> Context:
    """Return the surroundings of a command, with its cache below `folder`."""
    emit = Events()
    where = Project(project or folder)
    return Context(where, runner or FakeRunner(), Cache(folder / "cache", emit), emit)


def sandbox(folder: Path, answer: Answer = lambda _: "") -> Sandbox:
    return Sandbox(folder / "tools", FakeRunner(answer))


def site(**changes: Any) -> Site:  # noqa: ANN401 - any key of the model
    archive = {
        "uri": "https://mirror.example/debian/",
        "suites": ["bookworm", "bookworm-updates"],
        "components": ["main", "non-free"],
        "keyring": "site.gpg",
    }
    return Site.model_validate({"description": "a site", "archives": [archive], **changes})


def spec(**changes: Any) -> Spec:  # noqa: ANN401 - any key of the model
    profile = Profile.model_validate(
        {
            "description": "a profile",
            "kernel": {"cmdline": ["console=ttyS0"]},
            "packages": {"roles": ["base"]},
            "overlays": ["base"],
            "disk": {"esp": "64MiB", "root": "1GiB", "cidata": "48MiB", "var_min": "512MiB"},
            "node": {"journal_max": "256MiB"},
        }
    )
    values = {
        "profile_name": "cpu",
        "site_name": "debian",
        "profile": profile,
        "site": site(),
        "packages": ("alpha", "linux-image-amd64"),
        "tools": ("mmdebstrap",),
        "initrd": InitrdRecipe(packages=("bash",), modules=("erofs",), optional_modules=("nvme",)),
        "installer": InitrdRecipe(packages=("curl",), modules=(), optional_modules=("igb",)),
        "origins": {"profile.disk.root": "config/profiles/cpu.yaml"},
    }
    return Spec.model_validate({**values, **changes})


def package(name: str = "alpha", content: str = "0" * 64, **changes: Any) -> LockedPackage:  # noqa: ANN401
    values = {
        "name": name,
        "version": "1:2.0-1",
        "arch": "amd64",
        "archive": 0,
        "path": f"pool/{name}_2.0-1_amd64.deb",
        "size": 3,
        "sha256": content,
        "trees": ("image",),
    }
    return LockedPackage.model_validate({**values, **changes})


def lock(*packages: LockedPackage, request: str = "0" * 64, date: int = EPOCH) -> Lock:
    suites = tuple(LockedSuite(suite=s, date=date) for s in ("bookworm", "bookworm-updates"))
    return Lock(
        profile="cpu",
        site="debian",
        request=request,
        epoch=date,
        archives=(LockedArchive(uri="https://mirror.example/debian/", suites=suites),),
        packages=packages or (package(),),
    )


def root_image(folder: Path) -> RootImage:
    return RootImage(
        erofs=folder / "root.erofs",
        verity=folder / "root.verity",
        root_hash="0123456789abcdef" * 2 + "fedcba9876543210" * 2,
        kernel=folder / "vmlinuz",
        kernel_release="6.1.0-41-cloud-amd64",
    )

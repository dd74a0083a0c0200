"""A small whole project in a temporary folder, to break one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder.core.errors import ConfigError
from builder.core.paths import Project
from builder.resolve import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from builder.model.spec import Spec

FILES = {
    "config/profiles/base.yaml": """
description: common ground
abstract: true
kernel:
  package: linux-image-amd64
  cmdline: [quiet, console=ttyS0]
packages:
  roles: [base]
overlays: [base]
disk: {esp: 512MiB, root: 2GiB, cidata: 16MiB, var_min: 1GiB}
node:
  journal_max: 1GiB
""",
    "config/profiles/cpu.yaml": """
extends: base
description: no GPU
disk:
  root: 1GiB
packages:
  include: [vim]
""",
    "config/sites/debian.yaml": """
description: a mirror
archives:
  - uri: https://mirror.example.net/debian
    suites: [bookworm]
    keyring: debian-archive-keyring.gpg
""",
    "image/drivers/debian.yaml": """
description: a driver
packages: [libcuda1]
modules: {proprietary: [nvidia-kernel-dkms]}
""",
    "image/packages/base.yaml": "- udev\n- bash\n",
    "image/packages/ssh.yaml": "- openssh-server\n- bash\n",
    "image/tools.yaml": "- mmdebstrap\n- apt\n- apt\n",
    "image/initrd.yaml": "packages: [bash]\nmodules: [erofs]\n",
    "image/installer.yaml": "packages: [curl]\nmodules: [loop]\n",
}


@dataclass(frozen=True)
class Files:
    """The temporary project; `write` replaces or adds one file."""

    project: Project

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def profile(self, text: str, name: str = "cpu") -> None:
        self.write(f"config/profiles/{name}.yaml", text)

    def resolve(self, profile: str = "cpu", site: str = "debian") -> Spec:
        return resolve(self.project, profile, site)

    def problems(self, profile: str = "cpu", site: str = "debian") -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.resolve(profile, site)
        assert caught.value.exit_code == 2
        return list(caught.value.problems)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(Project(tmp_path))
    for name, text in FILES.items():
        made.write(name, text)
    (tmp_path / "overlays" / "base").mkdir(parents=True)
    return made

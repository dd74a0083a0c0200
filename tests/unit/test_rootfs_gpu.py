"""The driver and the node's wheels in the root."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from builder.core.hashing import sha256_file
from builder.core.paths import Project
from builder.core.wheels import wheel_path
from builder.model.lock import LockedWheel
from builder.rootfs.gpu import SHARED, lay_driver, share_user_space
from builder.rootfs.overlay import lay_overlay
from builder.rootfs.wheels import PACKAGES, lay_wheels
from tests.unit.driver_parts import LIBRARIES, RELEASE, VERSION, driver, gpu_spec, installed
from tests.unit.fakes import IDENTITY, context, lock, sandbox, site

OVERLAY = Project(Path(__file__).parents[2]).overlays / "gpu"


def test_modules_are_laid_over_the_root_and_indexed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    place = Path("usr/lib/modules") / RELEASE / "updates/dkms"
    (tree / place).mkdir(parents=True)
    (tree / place / "nvidia-current.ko").write_text("ko")
    tools, root = sandbox(tmp_path), installed(tmp_path / "root")
    lay_driver(tools, driver(tree=tree), root)
    assert (root / place / "nvidia-current.ko").read_text() == "ko"
    assert tools.runner.calls == [["depmod", "--basedir", str(root), RELEASE]]  # type: ignore[attr-defined]
    assert (root / SHARED / "lib64/libcuda.so.1").exists()


def test_the_shared_folder_has_second_names_of_the_same_files(tmp_path: Path) -> None:
    root = installed(tmp_path)
    (root / LIBRARIES / "libnvidia-ml.so.1").rename(root / LIBRARIES / "libnvidia-ml.so")
    (root / "usr/lib/x86_64-linux-gnu/libssl.so.3").write_text("no part of the driver")
    programs = root / "usr/lib/nvidia/current"
    programs.mkdir(parents=True)
    (programs / "nvidia-smi").write_text("smi")
    share_user_space(root)
    folder = root / SHARED / "lib64"
    assert {
        path.name: str(path.readlink()) if path.is_symlink() else "" for path in folder.iterdir()
    } == {
        "libcuda.so": f"libcuda.so.{VERSION}",
        "libcuda.so.1": f"libcuda.so.{VERSION}",
        f"libcuda.so.{VERSION}": "",
        "libnvidia-ml.so": f"libnvidia-ml.so.{VERSION}",
        f"libnvidia-ml.so.{VERSION}": "",
    }
    assert (folder / f"libcuda.so.{VERSION}").samefile(root / LIBRARIES / f"libcuda.so.{VERSION}")
    assert (root / SHARED / "bin/nvidia-smi").samefile(programs / "nvidia-smi")


def wheel(folder: Path) -> LockedWheel:
    """Put a wheel into the cache, as nvidia-ml-py has its files."""
    files = {
        "pynvml.py": "import ctypes\n",
        "example.py": "print()\n",
        "nvidia_ml_py-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
        "nvidia_ml_py-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: nvidia-ml-py\n",
    }
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for name, text in files.items()
    ]
    record = "nvidia_ml_py-1.dist-info/RECORD"
    made = folder / "nvidia_ml_py-1-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in {**files, record: "\n".join([*lines, f"{record},,"])}.items():
            archive.writestr(name, text)
    locked = LockedWheel(
        name="nvidia-ml-py", version="1", file_name=made.name, sha256=sha256_file(made)
    )
    place = wheel_path(folder / "cache", locked)
    place.parent.mkdir(parents=True)
    made.rename(place)
    return locked


def test_wheels_go_where_debians_python_looks(tmp_path: Path) -> None:
    named = lock().model_copy(update={"wheels": (wheel(tmp_path),)})
    root = tmp_path / "root"
    (root / PACKAGES / "yaml").mkdir(parents=True)
    (root / PACKAGES / "yaml/__init__.py").write_text("")
    assert lay_wheels(context(tmp_path), named, root) == [f"/{PACKAGES}/pynvml.py"]
    assert not (root / PACKAGES / "example.py").exists()
    assert (root / PACKAGES / "nvidia_ml_py-1.dist-info/INSTALLER").read_text() == "imgbuild\n"


@pytest.mark.parametrize(("persistence", "wanted"), [(True, True), (False, False)])
def test_the_persistence_daemon_starts_with_a_gpu_where_the_profile_says_so(
    tmp_path: Path, *, persistence: bool, wanted: bool
) -> None:
    profile = gpu_spec({"persistence": persistence}).profile
    lay_overlay(OVERLAY, tmp_path, {"profile": profile, "site": site(), "identity": IDENTITY})
    rules = (tmp_path / "usr/lib/udev/rules.d/80-imgnode-gpu.rules").read_text()
    assert "nvidia-devices.service" in rules
    assert ("nvidia-persistenced.service" in rules) is wanted

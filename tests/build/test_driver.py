"""The GPU driver, really built: what is in the image, what is not, what a build is refused for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.core.cache import Cache
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import link_or_copy
from builder.core.hashing import sha256_file
from builder.core.paths import Project
from builder.core.process import Runner
from builder.core.sandbox import Sandbox
from builder.driver.fits import check_fits, user_space
from builder.driver.locked import locked_release
from builder.driver.modules import build_modules
from builder.driver.tree import build_tree
from builder.model.artifacts import Manifest
from builder.model.driver import Driver, DriverFacts
from builder.model.lock import Lock
from builder.model.site import ModuleKey
from builder.model.spec import Spec
from builder.resolve import resolve
from tests.build.command import Place, Result, copy_project
from tests.build.conftest import CHECKOUT
from tests.build.gpuos import NAME, PROFILE, add_gpu_os

pytestmark = pytest.mark.timeout(1800)

CACHE = CHECKOUT / ".cache" / "imgbuild"
SHARED = "/usr/lib/imgnode/gpu/lib64"
NO_NODE_NEEDS = re.compile(
    r"(gcc|cpp|g\+\+|clang)-\d+|make|dkms|.*-dkms"
    r"|(linux-(headers|kbuild|compiler)|xserver|libx11|x11)-.*"
)


@dataclass(frozen=True)
class Gpu:
    """A finished image of a node with GPUs, and its root, mounted."""

    place: Place
    root: Path
    tools_key: str

    @property
    def manifest(self) -> Manifest:
        return Manifest.model_validate_json((self.place.out / "manifest.json").read_text())

    @property
    def facts(self) -> DriverFacts:
        assert self.manifest.driver is not None
        return self.manifest.driver

    @property
    def lock(self) -> Lock:
        return Lock.model_validate_json(self.place.lock_file(NAME).read_text())

    @property
    def spec(self) -> Spec:
        return resolve(Project(self.place.project), NAME, "debian")

    @property
    def tools(self) -> Sandbox:
        return Sandbox(CACHE / "stages/tools" / self.tools_key / "tree", Runner())

    def inside(self, *words: str) -> str:
        """Run a program of the image in its root; return what it prints."""
        argv = ["bwrap", "--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev", "--"]
        done = subprocess.run([*argv, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpu]:
    """Build the image with the checkout's own cache (cold: minutes; warm: seconds)."""
    place = Place(tmp_path_factory.mktemp("gpu"))
    copy_project(CHECKOUT, place.project, link=False)
    add_gpu_os(place)
    made = build(place, "--json")
    made.done()
    point = place.top / "mounted"
    point.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", place.out / "root.erofs", point], check=True)
    try:
        yield Gpu(place, point, made.keys()["tools"])
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
        shutil.rmtree(place.top, ignore_errors=True)


@pytest.fixture
def again(tmp_path: Path, gpu: Gpu) -> Place:
    """Give a copy of the project, with its lock, to be changed."""
    made = Place(tmp_path)
    copy_project(gpu.place.project, made.project, link=False)
    return made


def build(place: Place, *words: str) -> Result:
    return place.build(NAME, *words, env={"IMGBUILD_CACHE": str(CACHE)})


def context(place: Place, cache: Path) -> Context:
    return Context(Project(place.project), Runner(), Cache(cache, lambda _: None), lambda _: None)


def test_modules_kernel_and_libraries_belong_together(gpu: Gpu) -> None:
    assert {module.name for module in gpu.facts.modules} >= {"nvidia", "nvidia-uvm"}
    release = gpu.manifest.kernel_release
    for module in gpu.facts.modules:
        told = gpu.inside("modinfo", "-k", release, module.file.removesuffix(".ko"))
        fields = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
        assert fields["vermagic"].split()[0] == release
        assert fields["version"].strip() == gpu.facts.version
    libraries = gpu.inside("sh", "-c", "readlink -f /usr/lib/x86_64-linux-gnu/libcuda.so.1")
    assert libraries.strip().endswith(f"libcuda.so.{gpu.facts.version}")
    assert (gpu.root / "usr/lib/firmware/nvidia" / gpu.facts.version).is_dir()
    image = json.loads((gpu.root / "usr/lib/imgnode/image.json").read_text())
    assert image["driver_version"] == gpu.facts.version


def test_the_kernel_finds_the_modules(gpu: Gpu) -> None:
    release = gpu.manifest.kernel_release
    for name in ("nvidia", "nvidia-uvm"):
        file = name.replace("nvidia", "nvidia-current", 1)
        assert f"-i {file}" in gpu.inside("modprobe", "-S", release, "--show-depends", name)
        told = gpu.inside("modprobe", "-S", release, "--ignore-install", "--show-depends", file)
        assert f"updates/dkms/{file}.ko" in told
    alias = "pci:v000010DEd000020B2sv000010DEsd00001463bc03sc02i00"
    assert "nvidia" in gpu.inside("modprobe", "-S", release, "--resolve-alias", alias)
    blacklist = gpu.inside("modprobe", "-S", release, "--showconfig")
    assert "blacklist nouveau" in blacklist


def test_nothing_that_built_the_driver_is_in_the_image(gpu: Gpu) -> None:
    names = [package.name for package in gpu.manifest.packages]
    assert [name for name in names if NO_NODE_NEEDS.fullmatch(name)] == []
    for program in ("gcc", "cc", "make", "ld", "dkms", "Xorg"):
        assert "found" not in gpu.inside("sh", "-c", f"command -v {program} && echo found || :")
    assert not list((gpu.root / "usr/src").iterdir())


def test_the_shared_folder_takes_no_space(gpu: Gpu) -> None:
    shared = gpu.root / SHARED.lstrip("/")
    links = {path.name: str(path.readlink()) for path in shared.iterdir() if path.is_symlink()}
    assert links["libcuda.so.1"] == f"libcuda.so.{gpu.facts.version}"
    files = [path for path in shared.iterdir() if not path.is_symlink()]
    assert all(path.stat().st_nlink == 2 for path in files), files
    assert {path.name.partition(".")[0] for path in files} >= {
        "libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler", "libnvidia-nvvm"
    }  # fmt: skip
    assert (shared.parent / "bin/nvidia-smi").stat().st_nlink == 2


def test_the_nodes_python_asks_the_driver(gpu: Gpu) -> None:
    script = (
        "import pynvml\n"
        "try: pynvml.nvmlInit()\n"
        "except pynvml.NVMLError_DriverNotLoaded: print('asked')\n"
    )
    assert gpu.inside("python3", "-c", script) == "asked\n"
    folder = gpu.root / "usr/lib/python3/dist-packages"
    assert list((folder / "__pycache__").glob("pynvml.*.pyc"))


def test_a_changed_overlay_compiles_nothing(again: Place) -> None:
    again.write("overlays/base/etc/issue", "changed\n")
    done = build(again, "--json")
    done.done()
    events = [json.loads(line) for line in done.out.splitlines()]
    ended = {one["stage"]: one["outcome"] for one in events if one["event"] == "StageEnded"}
    assert ended["root"] == "built"
    assert {ended[stage] for stage in ("driver-devices", "driver", "driver-tree", "base")} == {
        "cached"
    }


def test_a_lock_of_another_branch_is_refused(again: Place) -> None:
    again.write(f"config/profiles/{NAME}.yaml", PROFILE + "gpu: {driver: {branch: '550'}}\n")
    build(again, "--locked").refused("branch 535", "the profile wants 550", "hint:")
    again.lock_file(NAME).unlink()
    build(again).refused("branch 535", "the profile wants 550")
    assert not again.lock_file(NAME).exists()
    again.nothing_half_written()


def test_a_board_that_the_driver_does_not_know_is_refused(again: Place) -> None:
    again.write(f"config/profiles/{NAME}.yaml", PROFILE + "gpu: {devices: ['10de:2335']}\n")
    build(again).refused("does not know 10de:2335", "hint:")
    again.nothing_half_written()


def test_a_real_root_with_another_version_is_refused(gpu: Gpu, tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "var/lib").mkdir(parents=True)
    (base / "usr").symlink_to(gpu.root / "usr")
    (base / "var/lib/dpkg").symlink_to(gpu.root / "usr/lib/sysimage/dpkg")
    made = Driver(tree=tmp_path, key="", facts=gpu.facts)
    check_fits(gpu.spec, gpu.lock, made, base)
    assert len(user_space(gpu.lock, base)) > 6
    old = gpu.facts.model_copy(update={"version": "535.261.03", "modules": ()})
    with pytest.raises(UserError, match=r"535\.261\.03.*refuse each other") as caught:
        check_fits(gpu.spec, gpu.lock, made.model_copy(update={"facts": old}), base)
    assert re.search(rf"\((lib|nvidia-smi|firmware)\S* {gpu.facts.version}", caught.value.what)
    other = gpu.facts.modules[0].model_copy(update={"kernel": "6.1.0-1-amd64"})
    odd = gpu.facts.model_copy(update={"modules": (other,)})
    with pytest.raises(UserError, match="vermagic"):
        check_fits(gpu.spec, gpu.lock, made.model_copy(update={"facts": odd}), base)


def test_modules_are_signed_with_the_sites_key(gpu: Gpu, tmp_path: Path) -> None:
    key, certificate = tmp_path / "site.key", tmp_path / "site.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9",
         "-subj", "/CN=modules of a site/", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    where = context(gpu.place, CACHE)
    made, stage = build_modules(where, gpu.tools, gpu.lock)
    pair = ModuleKey(key=str(key), certificate=str(certificate))
    release = locked_release(gpu.lock)
    own = context(gpu.place, tmp_path / "cache")
    tree, _, facts = build_tree(own, gpu.tools, made, stage, release, "proprietary", pair)
    assert {module.signer for module in facts.modules} == {"modules of a site"}
    for path in tree.rglob("*.ko"):
        assert path.read_bytes().endswith(b"~Module signature appended~\n")
        plain = (made / "modules" / path.name).read_bytes()
        assert path.read_bytes().startswith(plain)
    key.write_text("no key")
    with pytest.raises(UserError, match="does not sign"):
        build_tree(own, gpu.tools, made, stage, release, "proprietary", pair)


@pytest.mark.long
def test_compiled_again_they_are_the_same_bytes(gpu: Gpu, tmp_path: Path) -> None:
    (tmp_path / "other/debs").mkdir(parents=True)
    for package in gpu.lock.tree("driver"):
        name = f"{package.sha256}.deb"
        link_or_copy(Runner(), CACHE / "debs" / name, tmp_path / "other/debs" / name)
    first, _ = build_modules(context(gpu.place, CACHE), gpu.tools, gpu.lock)
    second, _ = build_modules(context(gpu.place, tmp_path / "other"), gpu.tools, gpu.lock)
    assert first != second
    digests = [
        {path.name: sha256_file(path) for path in (made / "modules").iterdir()}
        for made in (first, second)
    ]
    assert digests[0] == digests[1]

"""The room `driver` with stand-ins: lists of GPUs, inputs of the stages, signing, refusals."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import StageEnded
from builder.core.process import CommandError
from builder.core.sandbox import Sandbox
from builder.driver import devices, modules
from builder.driver.build import build_driver
from builder.driver.devices import check_devices, parse_json, parse_readme
from builder.driver.modules import SIGN_FILE, build_modules
from builder.driver.tree import build_tree, read_facts
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.site import ModuleKey
from tests.unit.driver_parts import KERNEL, RELEASE, VERSION, gpu_lock, gpu_spec, locked
from tests.unit.fakes import Events, FakeRunner, context, lock, spec

README = """\
Appendix A. Supported NVIDIA GPU Products
A1. CURRENT NVIDIA GPUS

 NVIDIA GPU product                               Device PCI ID*  VDPAU features
 -----------------------------------------------  --------------  --------------
 NVIDIA GeForce 830M                              1340            E
 NVIDIA A100-SXM4-80GB                            20B2 10DE 1463  J
 NVIDIA GeForce GTX 1080                          1B80            H 2

Below are the legacy GPUs that are no longer supported in the unified driver.
 GeForce 820M                                     1140 103C 2335  C
"""
CHIPS = [
    {"devid": "0x20B2", "name": "A100"},
    {"devid": "0x0020", "name": "RIVA TNT", "legacybranch": "71.86.xx"},
]


@pytest.fixture
def where(tmp_path: Path) -> Context:
    (tmp_path / "cache").mkdir()
    return context(tmp_path, project=tmp_path)


def tools(tmp_path: Path, answer: FakeRunner | None = None) -> Sandbox:
    for name in ("mmdebstrap", "kmod"):
        program = tmp_path / "tools/usr/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(name)
    return Sandbox(tmp_path / "tools", answer or FakeRunner())


def test_both_lists_of_gpus_leave_out_what_is_no_longer_supported() -> None:
    assert parse_readme(README) == {"1340", "20b2", "1b80"}
    assert parse_json(json.dumps({"chips": CHIPS})) == {"20b2"}


def lists(where: Context, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> Sandbox:
    """Return tools that find this file where the driver's packages are unpacked."""
    monkeypatch.setattr(devices, "checked_deb", lambda root, one: root / one.file_name)

    def unpack(words: list[str]) -> str:
        (Path(words[4]) / name).write_bytes(content)
        return ""

    return Sandbox(where.cache.root / "tools", FakeRunner(unpack))


def test_a_gpu_that_the_driver_does_not_know_is_refused(
    where: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = lists(where, monkeypatch, "README.txt.gz", gzip.compress(README.encode()))
    check_devices(where, sandbox, gpu_spec({"devices": ["10de:20b2"]}), gpu_lock())
    both = gpu_spec({"devices": ["10de:20b2", "10de:2335"]})
    with pytest.raises(UserError) as caught:
        check_devices(where, sandbox, both, gpu_lock())
    assert "driver 535.309.01 (nvidia-kernel-dkms, site debian) does not know 10de:2335" in str(
        caught.value
    )
    assert "gpu.devices" in caught.value.what
    assert caught.value.hint is not None


def test_without_a_list_that_is_told(where: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = lists(where, monkeypatch, "copyright", b"")
    check_devices(where, sandbox, gpu_spec({"devices": ["10de:20b2"]}), gpu_lock())
    assert isinstance(where.emit, Events)
    assert "is not checked" in where.emit.notes()[0]


def modules_key(tmp_path: Path, lock_: Lock, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the key of the stage that compiles, without compiling."""
    place = context(tmp_path)
    monkeypatch.setattr(modules, "_make", lambda *_: None)
    return build_modules(place, tools(tmp_path), lock_)[1]


def test_modules_are_compiled_anew_for_another_kernel_or_driver_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = modules_key(tmp_path, gpu_lock(), monkeypatch)
    others = [locked("curl", "2", "image"), locked("libcuda1", "1-1", "image", sha256="a" * 64)]
    assert modules_key(tmp_path, gpu_lock(*others, epoch=7), monkeypatch) == key
    dkms = locked("nvidia-kernel-dkms", f"{VERSION}-9", "driver")
    assert modules_key(tmp_path, gpu_lock(dkms), monkeypatch) != key
    headers = locked(f"linux-headers-{RELEASE}", KERNEL, "driver", sha256="b" * 64)
    assert modules_key(tmp_path, gpu_lock(headers), monkeypatch) != key
    kernel = locked("linux-image-6.1.0-57-amd64", KERNEL, "image")
    other = gpu_lock(kernel, without=(f"linux-image-{RELEASE}",))
    assert modules_key(tmp_path, other, monkeypatch) != key


def chroot(monkeypatch: pytest.MonkeyPatch, log: str | None) -> None:
    """Have the chroot appear with sources in it, and a compiler's log where there is one."""

    def bootstrap(*parts: object) -> None:
        root = parts[-1]
        assert isinstance(root, Path)
        source = root / "usr/src/nvidia-current-535.309.01"
        source.mkdir(parents=True)
        (source / "dkms.conf").touch()
        if log is not None:
            build = root / "var/lib/dkms/nvidia-current/535.309.01/build"
            build.mkdir(parents=True)
            (build / "make.log").write_text(log)

    monkeypatch.setattr(modules, "_bootstrap", bootstrap)


def test_dkms_builds_for_the_kernel_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chroot(monkeypatch, None)
    runner = FakeRunner()
    build_modules(context(tmp_path, runner), tools(tmp_path), gpu_lock())
    assert runner.calls[-1] == [
        *("dkms", "build", "nvidia-current/535.309.01", "-k", RELEASE, "-a", "x86_64")
    ]


def test_what_does_not_compile_shows_the_compilers_words_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chroot(monkeypatch, "one\nnv.c:7:1: error: too few arguments\nmake: *** Error 2\nlast\n")

    def fail(_: list[str]) -> str:
        raise CommandError("dkms", "exit status 10", "Bad return status")

    place = context(tmp_path, FakeRunner(fail))
    with pytest.raises(UserError) as caught:
        build_modules(place, tools(tmp_path), gpu_lock())
    assert f"nvidia-current 535.309.01 does not compile for kernel {RELEASE}" in caught.value.what
    assert "nv.c:7:1: error: too few arguments" in caught.value.what
    assert "last" not in caught.value.what
    assert not list((place.cache.root / "stages").rglob("modules"))
    assert not list((place.cache.root / "work").iterdir())


MODINFO = """\
filename:       {path}
alias:          char-major-195-*
version:        535.309.01
name:           {name}
vermagic:       6.1.0-56-amd64 SMP preempt mod_unload modversions
{signer}"""


def modinfo(words: list[str], *, signed: bool = False) -> str:
    path = Path(words[-1])
    signer = "signer:         a site\n" if signed else ""
    return MODINFO.format(
        path=path, name=path.stem.replace("-current", "").replace("-", "_"), signer=signer
    )


def made(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "made"
    (folder / "modules").mkdir(parents=True)
    for name in names or ("nvidia-current.ko", "nvidia-current-uvm.ko"):
        (folder / "modules" / name).write_text(name)
    return folder


def key_pair(where: Context) -> ModuleKey:
    where.project.sites.mkdir(parents=True)
    for name in ("module.key", "module.crt"):
        (where.project.sites / name).write_text(name)
    return ModuleKey(key="module.key", certificate="module.crt")


def tree(
    where: Context, tmp_path: Path, runner: FakeRunner, signing: ModuleKey | None = None
) -> Driver:
    folder = tmp_path / "made"
    folder = folder if folder.exists() else made(tmp_path)
    sandbox = tools(tmp_path, runner)
    found, key, facts = build_tree(
        where, sandbox, folder, "k" * 64, RELEASE, "proprietary", signing
    )
    return Driver(tree=found, key=key, facts=facts)


def test_the_tree_has_the_modules_where_dkms_puts_them(where: Context, tmp_path: Path) -> None:
    found = tree(where, tmp_path, FakeRunner(modinfo))
    place = found.tree / "usr/lib/modules" / RELEASE / "updates/dkms"
    assert sorted(path.name for path in place.iterdir()) == [
        "nvidia-current-uvm.ko",
        "nvidia-current.ko",
    ]
    assert found.facts.version == VERSION
    assert [(one.name, one.kernel, one.signer) for one in found.facts.modules] == [
        ("nvidia-uvm", RELEASE, None),
        ("nvidia", RELEASE, None),
    ]


def test_a_site_with_a_key_has_each_module_signed(where: Context, tmp_path: Path) -> None:
    signing = key_pair(where)
    (made(tmp_path) / SIGN_FILE).touch()
    runner = FakeRunner(lambda words: modinfo(words, signed=True))
    plain = tree(where, tmp_path, FakeRunner(modinfo))
    found = tree(where, tmp_path, runner, signing)
    signed = [words for words in runner.calls if words[0].endswith(SIGN_FILE)]
    assert [Path(words[-1]).name for words in signed] == [
        "nvidia-current-uvm.ko",
        "nvidia-current.ko",
    ]
    assert signed[0][1:4] == [
        "sha512",
        str(where.project.sites / "module.key"),
        str(where.project.sites / "module.crt"),
    ]
    assert {one.signer for one in found.facts.modules} == {"a site"}
    (where.project.sites / "module.crt").write_text("another")
    assert len({plain.key, found.key, tree(where, tmp_path, runner, signing).key}) == 3


def test_a_key_that_is_missing_or_does_not_sign(where: Context, tmp_path: Path) -> None:
    signing = key_pair(where)
    with pytest.raises(UserError, match="bring no sign-file"):
        tree(where, tmp_path, FakeRunner(modinfo), signing)
    (tmp_path / "made" / SIGN_FILE).touch()

    def refuse(words: list[str]) -> str:
        raise CommandError(words[0], "exit status 1", "bad decrypt")

    with pytest.raises(UserError, match=r"does not sign nvidia-current-uvm\.ko") as caught:
        tree(where, tmp_path, FakeRunner(refuse), signing)
    assert "bad decrypt" in caught.value.what
    (where.project.sites / "module.key").unlink()
    with pytest.raises(UserError, match=r"module_key\.key: .*module\.key: there is no such file"):
        tree(where, tmp_path, FakeRunner(modinfo), signing)


def test_a_package_that_makes_no_nvidia_module(tmp_path: Path) -> None:
    sandbox = tools(tmp_path, FakeRunner(modinfo))
    with pytest.raises(UserError, match="make no module nvidia; they make: zfs"):
        read_facts(sandbox, [made(tmp_path, "zfs.ko") / "modules/zfs.ko"], "proprietary")


def test_a_profile_without_gpus_has_no_driver_and_no_stage(where: Context, tmp_path: Path) -> None:
    assert build_driver(where, tools(tmp_path), spec(), lock()) is None
    assert isinstance(where.emit, Events)
    assert not [event for event in where.emit if isinstance(event, StageEnded)]

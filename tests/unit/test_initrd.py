"""The initrd: what is left out, and which kernel modules come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.cache import Cache
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.core.sandbox import Sandbox
from builder.initrd.build import _leave_out, _skeleton, build_initrd
from builder.initrd.modules import copy_modules, kernel_release
from builder.model.spec import InitrdRecipe
from tests.unit.fakes import Events, FakeRunner, context, lock, sandbox, spec

RELEASE = "6.1.0-41-cloud-amd64"
# What modprobe(8) of kmod 30 tells of modules with needs, with options, and built in.
DEPENDS = {
    "erofs": [
        "insmod {}/kernel/lib/libcrc32c.ko ",
        "insmod {}/kernel/fs/erofs/erofs.ko ",
    ],
    "dm-verity": ["insmod {}/kernel/drivers/md/dm-verity.ko require_signatures=0 "],
    "ext4": ["builtin ext4"],
    "nvme": ["insmod {}/kernel/drivers/nvme/nvme.ko "],
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base/usr/lib/modules" / RELEASE
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo", "modules.dep"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for lines in DEPENDS.values():
        for line in lines:
            if line.startswith("insmod"):
                module = folder / line.split()[1].removeprefix("{}/")
                module.parent.mkdir(parents=True, exist_ok=True)
                module.write_text(module.stem)
    return tmp_path / "base"


def tools(tmp_path: Path, base: Path) -> Sandbox:
    def answer(words: list[str]) -> str:
        if words[0] != "modprobe":
            return ""
        lines = DEPENDS.get(words[-1])
        if lines is None:
            raise CommandError("modprobe", "exit status 1", f"FATAL: Module {words[-1]} not found")
        return "\n".join(line.format(base / "lib/modules" / RELEASE) for line in lines) + "\n"

    return sandbox(tmp_path, answer)


def copied(tmp_path: Path, base: Path, **lists: tuple[str, ...]) -> tuple[set[str], Context]:
    where = context(tmp_path)
    root = tmp_path / "initrd"
    recipe = InitrdRecipe(packages=("bash",), **{"modules": (), **lists})
    copy_modules(where, tools(tmp_path, base), recipe, base, root)
    folder = root / "usr/lib/modules" / RELEASE
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}, where


INDEXES = {"modules.order", "modules.builtin", "modules.builtin.modinfo"}


def test_modules_come_with_what_they_need(tmp_path: Path, base: Path) -> None:
    found, _ = copied(tmp_path, base, modules=("erofs",))
    assert found == {*INDEXES, "kernel/lib/libcrc32c.ko", "kernel/fs/erofs/erofs.ko"}


def test_options_of_a_module_are_no_part_of_its_name(tmp_path: Path, base: Path) -> None:
    found, _ = copied(tmp_path, base, modules=("dm-verity",))
    assert found == {*INDEXES, "kernel/drivers/md/dm-verity.ko"}


def test_a_module_in_the_kernel_needs_no_file(tmp_path: Path, base: Path) -> None:
    found, _ = copied(tmp_path, base, modules=("ext4",))
    assert found == INDEXES


def test_a_missing_module_stops_the_build(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match=f"kernel {RELEASE} has no module virtio_blk") as caught:
        copied(tmp_path, base, modules=("erofs", "virtio_blk"))
    assert caught.value.what.startswith("image/initrd.yaml: modules: ")
    assert caught.value.hint is not None


def test_a_missing_optional_module_is_told_once(tmp_path: Path, base: Path) -> None:
    found, where = copied(tmp_path, base, optional_modules=("ahci", "nvme", "uas"))
    assert "kernel/drivers/nvme/nvme.ko" in found
    assert isinstance(where.emit, Events)
    assert where.emit.notes() == [f"kernel {RELEASE} has no ahci, uas: left out"]


def test_the_index_is_made_for_what_was_copied(tmp_path: Path, base: Path) -> None:
    box = tools(tmp_path, base)
    recipe = InitrdRecipe(packages=("bash",), modules=("erofs",))
    copy_modules(context(tmp_path), box, recipe, base, tmp_path / "initrd")
    runner = box.runner
    assert isinstance(runner, FakeRunner)
    assert runner.calls[-1] == ["depmod", "--basedir", str(tmp_path / "initrd"), RELEASE]


@pytest.mark.parametrize(
    ("kernels", "told"),
    [((), "0 kernels: none"), (("6.1", "6.12"), "2 kernels: 6.1, 6.12")],
)
def test_exactly_one_kernel(tmp_path: Path, kernels: tuple[str, ...], told: str) -> None:
    for name in kernels:
        (tmp_path / "usr/lib/modules" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=told) as caught:
        kernel_release(tmp_path)
    assert caught.value.hint is not None


def test_the_release_of_the_one_kernel(base: Path) -> None:
    assert kernel_release(base) == RELEASE


def test_leaving_out(tmp_path: Path) -> None:
    for name in ("usr/share/doc/x", "usr/games/y", "var/lib/z", "usr/bin/sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (tmp_path / "var/link").symlink_to(outside)
    _leave_out(tmp_path, ("usr/share", "usr/games", "var/*", "not/there/*"))
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert left == ["usr", "usr/bin", "usr/bin/sh", "var"]
    assert (outside / "precious").exists()


def test_the_skeleton_says_that_it_is_an_initrd(tmp_path: Path) -> None:
    base, root = tmp_path / "base", tmp_path / "root"
    (base / "etc").mkdir(parents=True)
    for name in ("passwd", "group", "shadow"):
        (base / "etc" / name).write_text(name)
    _skeleton(root, base)
    assert (root / "etc/initrd-release").read_text().startswith("NAME=")
    assert (root / "init").readlink() == Path("usr/lib/systemd/systemd")
    assert (root / "lib").readlink() == Path("usr/lib")
    assert (root / "etc/passwd").read_text() == "passwd"
    assert not (root / "etc/shadow").exists()


def test_another_profiles_users_make_another_initrd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """udev's rules name groups: what the image has must be in the initrd."""
    asked = context(tmp_path)
    (tmp_path / "image/initrd").mkdir(parents=True)
    monkeypatch.setattr(Cache, "get", lambda *_: tmp_path)
    keys = []
    for number, group in enumerate(("root:x:0:", "root:x:0:\ndocker:x:977:")):
        base = tmp_path / str(number)
        (base / "etc").mkdir(parents=True)
        (base / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (base / "etc/group").write_text(f"{group}\n")
        keys.append(build_initrd(asked, sandbox(tmp_path), spec(), lock(), base)[1])
    assert len(set(keys)) == 2

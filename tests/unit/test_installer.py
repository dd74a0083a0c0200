"""The installer as a system: what it is made of, and what is sealed into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.cli import installer as installer_command
from builder.core.errors import UserError
from builder.disk.uki import Kernel, build_installer_uki
from builder.initrd.installer import build_installer_initrd
from builder.model.spec import InitrdRecipe
from builder.pipeline import build_installer
from tests.unit.fakes import EPOCH, IDENTITY, FakeRunner, context, lock, sandbox, spec
from tests.unit.resolve_project import files
from tests.unit.test_cli import Call, call

__all__ = ["call", "files"]

RELEASE = "6.1.0-41-cloud-amd64"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    for name in ("etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    modules = folder / "usr/lib/modules" / RELEASE
    modules.mkdir(parents=True)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (modules / name).touch()
    for name in ("image/installer/usr/lib/systemd/system/x.service", "imgnode/install/run.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("own")
    return folder


def build(tmp_path: Path, base: Path) -> tuple[dict[str, str], list[list[str]]]:
    """Return the files of the tree when it was packed, and the programs that ran."""
    seen: dict[str, str] = {}

    def answer(words: list[str]) -> str:
        if words[0] == "ldconfig":
            root = Path(words[-1])
            found = (path for path in root.rglob("*") if path.is_file())
            seen.update({str(path.relative_to(root)): path.read_text() for path in found})
        return ""

    def lay(root: Path) -> None:
        (root / "usr/lib/imgnode").mkdir(parents=True)
        (root / "usr/lib/imgnode/release-keyring.gpg").write_text("keys")

    box = sandbox(tmp_path, answer)
    locked = lock().model_copy(update={"packages": ()})
    build_installer_initrd(context(tmp_path), box, spec(), locked, base, lay, {"keys": ["x"]})
    assert isinstance(box.runner, FakeRunner)
    return seen, box.runner.calls


def test_it_is_a_system_that_stays(tmp_path: Path, base: Path) -> None:
    """systemd leaves an initrd, and knows one by this file (initrd-release(5))."""
    tree, calls = build(tmp_path, base)
    assert "etc/initrd-release" not in tree
    assert "ID=imgbuild-installer\n" in tree["etc/os-release"]
    assert tree["usr/lib/imgnode/release-keyring.gpg"] == "keys"
    assert tree["usr/lib/python3/dist-packages/imgnode/install/run.py"] == "own"
    assert tree["usr/lib/systemd/system/x.service"] == "own"
    assert tree["etc/ssl/certs/ca-certificates.crt"] == "etc/ssl/certs/ca-certificates.crt"
    assert [words[0] for words in calls[-2:]] == ["bash", "zstd"]


def test_it_has_the_initrds_modules_and_its_own(tmp_path: Path, base: Path) -> None:
    _, calls = build(tmp_path, base)
    assert [words[-1] for words in calls if words[0] == "modprobe"] == ["erofs", "nvme", "igb"]


def test_what_an_initrd_leaves_out_may_stay() -> None:
    initrd = InitrdRecipe(packages=("bash",), modules=("erofs",), exclude=("usr/share", "gconv"))
    more = InitrdRecipe(packages=("curl",), modules=("loop",), exclude=("man",), keep=("gconv",))
    both = initrd.with_more(more)
    assert both.packages == ("bash", "curl")
    assert both.modules == ("erofs", "loop")
    assert both.exclude == ("usr/share", "man")


@pytest.mark.parametrize("order", [None, "http://10.0.0.1/order"])
def test_the_command_line_is_sealed(tmp_path: Path, order: str | None) -> None:
    box = sandbox(tmp_path)
    kernel = Kernel(tmp_path / "vmlinuz", RELEASE)
    where = context(tmp_path)
    args = (where, box, spec(), IDENTITY, kernel, tmp_path / "cpio", "key", order, ["ukify=1"])
    made = build_installer_uki(*args, signing=None)
    assert made.name == "installer.efi"
    assert isinstance(box.runner, FakeRunner)
    (words,) = box.runner.calls
    cmdline = next(one for one in words if one.startswith("--cmdline="))
    assert "console=ttyS0" in cmdline
    assert "panic=30" in cmdline
    assert cmdline.endswith(f" imgnode.order={order}") == bool(order)
    assert box.runner.envs[0]["SOURCE_DATE_EPOCH"] == str(EPOCH)


def test_without_keys_it_could_believe_nobody(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no release_keys") as caught:
        build_installer(context(tmp_path), spec(), lock(), None)
    assert "imgbuild keys new" in str(caught.value.hint)


def test_the_command(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made.efi"
    made.write_bytes(b"MZ")
    monkeypatch.setattr(installer_command, "ensure_lock", lambda *_, **__: lock())
    monkeypatch.setattr(installer_command, "build_installer", lambda *_: made)
    monkeypatch.setattr(
        installer_command, "copy_sparse", lambda _, one, two: two.write_bytes(one.read_bytes())
    )
    ended = call("installer", "--profile", "cpu")
    assert ended.code == 0, ended
    target = Path(ended.out.strip())
    assert target.name == "installer-cpu.efi"
    assert target.read_bytes() == b"MZ"
    refused = call("installer", "--profile", "cpu", "--order", "ftp://x")
    assert (refused.code, "is no address" in refused.err) == (2, True)

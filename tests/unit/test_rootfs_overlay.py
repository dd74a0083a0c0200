"""Overlays, units and the node's package, laid over a root."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.core.paths import Project
from builder.model.profile import Gpu
from builder.rootfs.overlay import lay_imgnode, lay_overlay, lay_units
from tests.unit.fakes import IDENTITY, site, spec

ROOT = Path(__file__).parents[2]
VALUES = {"profile": spec().profile, "site": site(), "identity": IDENTITY}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "overlays/base"
    (folder / "etc/sudoers.d").mkdir(parents=True)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    return folder


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_templates_see_profile_site_and_identity(source: Path, root: Path) -> None:
    (source / "etc/issue.j2").write_text(
        "{{ profile.node.hostname }} {{ site.ntp | length }} {{ identity.stem }}\n\n"
    )
    lay_overlay(source, root, VALUES)
    assert (root / "etc/issue").read_text() == "imgnode 0 imgbuild-cpu_2026.1\n\n"
    assert not (root / "etc/issue.j2").exists()


def test_what_is_no_template_is_copied_as_it_is(source: Path, root: Path) -> None:
    (source / "etc/raw").write_bytes(b"{{ not.a.template }}\xff")
    lay_overlay(source, root, VALUES)
    assert (root / "etc/raw").read_bytes() == b"{{ not.a.template }}\xff"


@pytest.mark.parametrize(
    ("text", "line", "fact"),
    [
        ("one\ntwo\n{{ profile.node.hostnam }}\n", 3, "hostnam"),
        ("{{ nonesuch }}\n", 1, "nonesuch"),
        ("one\n{% for x in site.ntp %}\n{{ x }}\n", 3, "endfor"),
        ("one\n{% if %}\n", 2, "Expected an expression"),
        ("one\n\n{% macro m() %}\n{{ no.thing }}\n{% endmacro %}{{ m() }}\n", 4, "'no'"),
    ],
)
def test_a_template_that_does_not_render_names_file_and_line(
    source: Path, root: Path, text: str, line: int, fact: str
) -> None:
    path = source / "etc/broken.j2"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        lay_overlay(source, root, VALUES)
    assert caught.value.what.startswith(f"{path}:{line}: ")
    assert fact in caught.value.what
    assert caught.value.hint is not None
    assert "`profile`, `site` and `identity`" in caught.value.hint


def test_modes_follow_from_the_executable_bit(source: Path, root: Path) -> None:
    (source / "usr/bin").mkdir(parents=True)
    (source / "usr").chmod(0o700)
    for name, given in (("usr/bin/run", 0o700), ("usr/bin/run2.j2", 0o755), ("etc/plain", 0o666)):
        (source / name).write_text("x")
        (source / name).chmod(given)
    lay_overlay(source, root, VALUES)
    assert mode(root / "usr/bin/run") == mode(root / "usr/bin/run2") == 0o755
    assert mode(root / "etc/plain") == 0o644
    assert mode(root / "usr") == 0o755


def test_sudo_rules_are_not_for_everyone_to_read(source: Path, root: Path) -> None:
    (source / "etc/sudoers.d/admin").write_text("admin ALL=(ALL) ALL\n")
    (source / "etc/sudoers.d/site.j2").write_text("x\n")
    lay_overlay(source, root, VALUES)
    assert mode(root / "etc/sudoers.d/admin") == mode(root / "etc/sudoers.d/site") == 0o440


def test_links_stay_links(source: Path, root: Path) -> None:
    (source / "etc/systemd").mkdir()
    (source / "etc/masked.service").symlink_to("/dev/null")
    (source / "etc/folder").symlink_to("systemd")
    lay_overlay(source, root, VALUES)
    assert (root / "etc/masked.service").readlink() == Path("/dev/null")
    assert (root / "etc/folder").readlink() == Path("systemd")


def test_what_is_there_is_replaced_never_written_through(
    tmp_path: Path, source: Path, root: Path
) -> None:
    (tmp_path / "host").write_text("the host's")
    for name in ("linked", "linked2", "linked3"):
        (root / "etc" / name).symlink_to(tmp_path / "host")
    (root / "etc/old").write_text("a longer old text")
    (source / "etc/linked").write_text("ours")
    (source / "etc/linked2.j2").write_text("ours")
    (source / "etc/linked3").symlink_to("old")
    (source / "etc/old").write_text("new")
    lay_overlay(source, root, VALUES)
    assert (tmp_path / "host").read_text() == "the host's"
    assert (root / "etc/linked").read_text() == (root / "etc/linked2").read_text() == "ours"
    assert (root / "etc/linked3").readlink() == Path("old")
    assert (root / "etc/old").read_text() == "new"


def test_later_overlays_win(tmp_path: Path, source: Path, root: Path) -> None:
    other = tmp_path / "overlays/other/etc"
    other.mkdir(parents=True)
    (source / "etc/motd").write_text("first")
    (other / "motd.j2").write_text("second")
    for folder in (source, other.parent):
        lay_overlay(folder, root, VALUES)
    assert (root / "etc/motd").read_text() == "second"


def test_time_servers_of_the_site(root: Path) -> None:
    where = site(ntp=["ntp1.example", "ntp2.example"])
    lay_overlay(ROOT / "overlays/base", root, {**VALUES, "site": where})
    text = (root / "usr/lib/systemd/timesyncd.conf.d/50-site.conf").read_text()
    assert text == "[Time]\nNTP=ntp1.example ntp2.example\n"


DOCKER = {
    "storage-driver": "overlay2",
    "features": {"containerd-snapshotter": False},
    "exec-opts": ["native.cgroupdriver=systemd"],
    "log-driver": "journald",
    "log-level": "warn",
}
TOOLKIT = {
    "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}},
    "default-runtime": "nvidia",
}


@pytest.mark.parametrize(
    ("gpu", "runtime", "further"),
    [
        (None, "devices", {}),
        (None, "nvidia", {}),
        ({"model": "X"}, "devices", {}),
        ({"model": "X"}, "nvidia", TOOLKIT),
    ],
)
def test_docker_knows_nvidias_runtime_where_gpus_go_by_it(
    root: Path, gpu: dict[str, Any] | None, runtime: str, further: dict[str, Any]
) -> None:
    profile = spec().profile.model_copy(update={"gpu": Gpu.model_validate(gpu) if gpu else None})
    where = site(gpu={"runtime": runtime})
    lay_overlay(ROOT / "overlays/container", root, {**VALUES, "profile": profile, "site": where})
    assert json.loads((root / "etc/docker/daemon.json").read_text()) == {**DOCKER, **further}
    chosen = spec(profile=profile, site=where).overlays
    assert ("gpu-nvidia" in chosen) == bool(further)
    assert chosen[: len(profile.overlays)] == profile.overlays


def test_the_toolkits_own_settings(root: Path) -> None:
    lay_overlay(ROOT / "overlays/gpu-nvidia", root, VALUES)
    (file,) = (path for path in root.rglob("*") if path.is_file())
    assert file.relative_to(root) == Path("etc/nvidia-container-runtime/config.toml")
    found = tomllib.loads(file.read_text())
    assert found["nvidia-container-runtime"]["mode"] == "auto"
    assert found["nvidia-container-cli"]["no-cgroups"] is False
    assert found["nvidia-container-cli"]["ldconfig"].startswith("@/")


def test_units_go_to_their_folders(tmp_path: Path, root: Path) -> None:
    for name in ("system/a.service", "system-preset/00-x.preset", "tmpfiles.d/x.conf"):
        path = tmp_path / "units" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    lay_units(Project(tmp_path), root)
    found = sorted(str(p.relative_to(root)) for p in (root / "usr").rglob("*") if p.is_file())
    assert found == [
        "usr/lib/systemd/system-preset/00-x.preset",
        "usr/lib/systemd/system/a.service",
        "usr/lib/tmpfiles.d/x.conf",
    ]


def test_a_project_without_units_is_fine(tmp_path: Path, root: Path) -> None:
    lay_units(Project(tmp_path), root)
    assert [path.name for path in root.iterdir()] == ["etc"]


def test_the_nodes_package_and_its_command(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    lay_imgnode(Project(ROOT), root)
    package = root / "usr/lib/python3/dist-packages/imgnode"
    assert {path.name for path in package.glob("*.py")} == {
        path.name for path in (ROOT / "imgnode").glob("*.py")
    }
    assert not list(package.rglob("*.pyc"))
    assert {mode(path) for path in package.rglob("*.py")} == {0o644}
    assert mode(root / "usr/bin/imgnode") == 0o755
    assert "from imgnode.cli import main" in (root / "usr/bin/imgnode").read_text()

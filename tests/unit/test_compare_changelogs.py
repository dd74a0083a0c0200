"""Changelogs and kernel options come from packages in the cache: small real ones here."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.compare.changelogs import read_changelogs, successors
from builder.compare.kernel import compare_kernels
from builder.core.hashing import sha256_file
from builder.model.artifacts import InstalledPackage
from builder.model.difference import Change
from tests.unit.images import manifest, package

ENTRY = """{source} ({version}) bookworm-security; urgency=high

  * Fix {what}.

 -- A Maintainer <maintainer@example.org>  Mon, 02 Nov 2026 10:00:00 +0000

"""
Pack = Callable[..., InstalledPackage]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Give what builds a package with a changelog, or a file, and puts it into the cache."""

    def build(
        name: str,
        version: str,
        log: dict[str, str],
        *,
        source: str | None = None,
        more: tuple[str, str] | None = None,
    ) -> InstalledPackage:
        folder = tmp_path / f"{name}-{version}"
        docs = folder / "usr/share/doc" / name
        docs.mkdir(parents=True)
        (folder / "DEBIAN").mkdir()
        fields = {"Package": name, "Version": version, "Architecture": "amd64"}
        fields |= {"Maintainer": "A Maintainer <maintainer@example.org>", "Description": "x"}
        fields |= {"Source": source} if source else {}
        control = "".join(f"{key}: {value}\n" for key, value in fields.items())
        (folder / "DEBIAN/control").write_text(control)
        first = (source or name).partition(" ")[0]
        text = "".join(ENTRY.format(source=first, version=v, what=w) for v, w in log.items())
        (docs / "changelog.Debian.gz").write_bytes(gzip.compress(text.encode()))
        if more:
            (folder / more[0]).parent.mkdir(parents=True, exist_ok=True)
            (folder / more[0]).write_text(more[1])
        deb = tmp_path / "x.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "-Zxz", folder, deb], check=True, capture_output=True
        )
        digest = sha256_file(deb)
        (tmp_path / "debs").mkdir(exist_ok=True)
        deb.rename(tmp_path / "debs" / f"{digest}.deb")
        return InstalledPackage(name=name, version=version, arch="amd64", sha256=digest)

    return build


@pytest.mark.allow_commands("dpkg-deb")
def test_what_came_between_two_versions(tmp_path: Path, pack: Pack) -> None:
    log = {"1.3": "CVE-2026-1111 and CVE-2026-22222", "1.2": "a typo, CVE-2026-1111", "1.1": "x"}
    new = pack("alpha", "1.3", log)
    old = package("alpha", "1.1")
    found, lacking = read_changelogs(
        manifest(packages=(old,)), manifest("2", packages=(new,)), tmp_path
    )
    assert lacking == ()
    (one,) = found
    assert (one.source, one.packages, one.taken_back) == ("alpha", ("alpha",), False)
    assert [entry.version for entry in one.entries] == ["1.3", "1.2"]
    assert one.entries[0].text == "  * Fix CVE-2026-1111 and CVE-2026-22222."
    assert one.cves == ("CVE-2026-1111", "CVE-2026-22222")
    back, _ = read_changelogs(manifest(packages=(new,)), manifest("2", packages=(old,)), tmp_path)
    assert back[0].taken_back
    assert back[0].entries == one.entries


@pytest.mark.allow_commands("dpkg-deb")
def test_a_source_with_versions_of_its_own(tmp_path: Path, pack: Pack) -> None:
    """Two packages of one source are told once; versions are compared as the source counts."""
    log = {"2.4": "new", "2.3": "old", "2.2": "older"}
    old = [pack(name, "3:1.8+b1", {}, source="tools (2.3)") for name in ("beta", "gamma")]
    new = [pack(name, "3:1.9", log, source="tools (2.4)") for name in ("beta", "gamma")]
    found, _ = read_changelogs(
        manifest(packages=tuple(old)), manifest("2", packages=tuple(new)), tmp_path
    )
    (one,) = found
    assert (one.source, one.packages) == ("tools", ("beta", "gamma"))
    assert [entry.version for entry in one.entries] == ["2.4"]


def test_a_package_that_is_not_in_the_cache_is_told(tmp_path: Path) -> None:
    old, new = manifest(), manifest("2", packages=(package(version="2.0"),))
    assert read_changelogs(old, new, tmp_path) == (
        (),
        ("changelog of alpha 2.0: not in the cache",),
    )
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs" / f"{'0' * 64}.deb").write_text("another file than its name says")
    assert read_changelogs(old, new, tmp_path)[1] == ("changelog of alpha 2.0: not in the cache",)


def test_a_package_with_its_version_in_its_name_follows_the_one_that_went() -> None:
    old = manifest(packages=(package("linux-image-6.1.0-41-amd64"), package("a1"), package("a2")))
    new = manifest(packages=(package("linux-image-6.1.0-44-amd64"), package("a3")))
    pairs = [(before.name, after.name) for before, after in successors(old, new)]
    assert pairs == [("linux-image-6.1.0-41-amd64", "linux-image-6.1.0-44-amd64")]


@pytest.mark.allow_commands("dpkg-deb")
def test_options_of_two_kernels(tmp_path: Path, pack: Pack) -> None:
    images = []
    for release, option in (("6.1.0-1-amd64", "m"), ("6.1.0-2-amd64", "y")):
        more = (f"boot/config-{release}", f"CONFIG_A={option}\nCONFIG_B=y\n")
        kernel = pack(f"linux-image-{release}", "6.1", {}, more=more)
        one = manifest(packages=(kernel,))
        images.append(one.model_copy(update={"kernel_release": release}))
    found, lacking = compare_kernels(images[0], images[1], tmp_path)
    assert (found, lacking) == ((Change(name="CONFIG_A", old="m", new="y"),), ())
    found, lacking = compare_kernels(manifest(), images[1], tmp_path)
    assert found is None
    assert lacking == ("options of kernel 6.1.0-41-cloud-amd64: its package is not in the cache",)

"""Vendor archives and internal mirrors: what they may give, and when they are not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from builder.model.lock import Lock
from tests.build.archives import PROJECT, edit, make_index, sign
from tests.build.command import Place
from tests.build.vendors import (
    BRANCH,
    DEBIAN,
    DOCKER,
    DRIVER,
    FOREIGN,
    TOOLKIT,
    Vendors,
    vendor_mirror,
)

_LOCK = ("lock", "--profile", "tiny", "--site", "test")
_DOCKER, _TOOLKIT = "[docker-ce*, containerd.io]", f"[{', '.join(TOOLKIT)}]"
_OLDER = "Sat, 01 Mar 2025 12:00:00 UTC"
_PROFILE = """\
extends: bare
description: a GPU node of packages that are none
kernel: {package: linux-image-amd64}
packages: {roles: [base, boot, seed, ssh, container]}
gpu:
  model: any
  fabric_manager: true
  driver: {modules: open}
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Vendors]:
    with vendor_mirror(tmp_path / "mirror") as made:
        yield made


@pytest.fixture
def vendor(tiny: Place, mirror: Vendors) -> Place:
    """A project of tiny packages, Docker and the container toolkit; its site is the mirror."""
    profile = PROJECT["config/profiles/tiny.yaml"].replace("[tiny]", "[tiny, container]")
    tiny.write("config/profiles/tiny.yaml", profile)
    tiny.write("image/packages/container.yaml", "- docker.io\n")
    tiny.write("image/packages/container-vendor.yaml", f"- docker-ce\n- {TOOLKIT[0]}\n")
    _site(tiny, mirror)
    return tiny


def _site(
    place: Place, mirror: Vendors, more: str = "", docker: str = _DOCKER, toolkit: str = _TOOLKIT
) -> None:
    archives = mirror.archive("debian") + mirror.archive("docker", only=docker)
    archives += mirror.archive("toolkit", only=toolkit)
    text = f"description: a mirror\nroles: {{container: container-vendor}}\narchives:\n{archives}"
    place.write("config/sites/test.yaml", text + more)


def _refused(place: Place, *words: str) -> None:
    """Assert that no lock is made, or that the one there stays as it is."""
    path = place.lock_file("tiny")
    before = path.read_bytes() if path.exists() else None
    place.run(*_LOCK).refused(*words, "hint:")
    assert (path.read_bytes() if path.exists() else None) == before
    place.nothing_half_written()


def _locked(place: Place, profile: str = "tiny", *words: str) -> dict[str, tuple[str, str]]:
    """Lock; return each package's version and its archive's address."""
    place.run("lock", "--profile", profile, "--site", "test", *words).done()
    lock = Lock.model_validate_json(place.lock_file(profile).read_text())
    return {p.name: (p.version, lock.archives[p.archive].uri) for p in lock.packages}


def test_each_package_comes_from_where_it_may(vendor: Place, mirror: Vendors) -> None:
    uri = mirror.server.uri
    assert _locked(vendor) == {
        "tiny-base": ("1.0", f"{uri}/debian"),
        "tiny-initrd": ("1.0", f"{uri}/debian"),
        "tiny-kernel": ("1.0", f"{uri}/debian"),
        "tiny-tool": ("1.0", f"{uri}/debian"),
        "containerd.io": ("2.2.0-1~debian.12~bookworm", f"{uri}/docker"),
        "docker-ce": (DOCKER, f"{uri}/docker"),
        "docker-ce-cli": (DOCKER, f"{uri}/docker"),
        **dict.fromkeys(TOOLKIT, ("1.18.1-1", f"{uri}/toolkit")),
    }


def test_what_would_come_without_only(vendor: Place, mirror: Vendors) -> None:
    """The mirror really tempts: with `only` gone, its higher versions are taken."""
    _site(vendor, mirror, docker="[]")
    assert _locked(vendor)["tiny-base"] == (FOREIGN, f"{mirror.server.uri}/docker")


def test_mirror_in_a_folder(vendor: Place, mirror: Vendors) -> None:
    site = vendor.project / "config/sites/test.yaml"
    site.write_text(site.read_text().replace(mirror.server.uri, f"file://{mirror.server.root}"))
    found = _locked(vendor)
    assert found["docker-ce"] == (DOCKER, f"file://{mirror.server.root}/docker")
    assert found["tiny-base"][0] == "1.0"


def test_dependency_that_only_does_not_name(vendor: Place, mirror: Vendors) -> None:
    _site(vendor, mirror, toolkit="[nvidia-container-toolkit*]")
    told = f"libnvidia-container1: {mirror.server.uri}/toolkit has it, but its `only`"
    _refused(vendor, "nvidia-container-toolkit : Depends: libnvidia-container1", told)


def test_package_that_only_does_not_name(vendor: Place, mirror: Vendors) -> None:
    _site(vendor, mirror, docker="[containerd.io]")
    _refused(vendor, f"docker-ce: {mirror.server.uri}/docker has it, but its `only`")


def test_minimum(vendor: Place, mirror: Vendors) -> None:
    _site(vendor, mirror, "minimum: {nvidia-container-toolkit: 1.18.2}\n")
    _refused(vendor, "nvidia-container-toolkit 1.18.1-1 is older than 1.18.2")
    _site(vendor, mirror, "minimum: {nvidia-container-toolkit: 1.18.1}\n")
    _locked(vendor)


def test_pinned_version(vendor: Place, mirror: Vendors) -> None:
    pin = f"pins: [{{packages: '{' '.join(TOOLKIT)}', version: 1.17.*}}]\n"
    _site(vendor, mirror, pin)
    found = _locked(vendor)
    assert {found[name][0] for name in TOOLKIT} == {"1.17.8-1"}


@pytest.mark.parametrize("name", ["docker", "toolkit"])
def test_older_state_of_a_mirror(vendor: Place, mirror: Vendors, name: str) -> None:
    """A replayed state is well signed, and still refused where the lock knows a newer one."""
    _locked(vendor)
    mirror.date(name, _OLDER)
    words = ("older than the lock", "locked 20", "mirror 2025-03-01 12:00", "--allow-older")
    _refused(vendor, *words)
    vendor.run(*_LOCK, "--check").refused(*words)
    _locked(vendor, "tiny", "--allow-older")


def test_newer_state_of_a_flat_mirror(vendor: Place, mirror: Vendors) -> None:
    mirror.date("toolkit", _OLDER)
    _locked(vendor)
    mirror.date("toolkit", "Sun, 02 Mar 2025 12:00:00 UTC")
    result = vendor.run(*_LOCK, "--check")
    told = "/toolkit: locked 2025-03-01 12:00, mirror 2025-03-02 12:00\n"
    assert (result.code, result.out) == (1, mirror.server.uri + told)


def test_unsigned_flat_mirror(vendor: Place, mirror: Vendors) -> None:
    for signature in ("InRelease", "Release.gpg"):
        (mirror.suites["toolkit"] / signature).unlink()
    _refused(vendor, "is not signed", "a key of the site's keyring")


def test_flat_mirror_signed_by_another_key(vendor: Place, mirror: Vendors) -> None:
    mirror.sign("toolkit", mirror.other)
    _refused(vendor, "NO_PUBKEY", "a key of the site's keyring")


def test_key_that_is_not_pinned(vendor: Place, mirror: Vendors) -> None:
    """The keyring holds both keys; the one that signs is not the pinned one."""
    ring = vendor.top / "both.gpg"
    ring.write_bytes(mirror.key.keyring.read_bytes() + mirror.other.keyring.read_bytes())
    mirror.key.keyring.write_bytes(ring.read_bytes())
    mirror.sign("toolkit", mirror.other)
    _refused(vendor, "not among the site's fingerprints")


def test_flat_index_altered_after_signing(vendor: Place, mirror: Vendors) -> None:
    edit(mirror.suites["toolkit"] / "Packages", "Version: 1.18.1-1", "Version: 9.99.9-1")
    _refused(vendor, "Hash Sum mismatch", "damaged")


def test_package_swapped_after_locking(vendor: Place, mirror: Vendors) -> None:
    """Another file of the same name and size never reaches the cache."""
    _locked(vendor)
    package = mirror.suites["toolkit"] / f"{TOOLKIT[0]}_1.18.1-1_amd64.deb"
    content = package.read_bytes()
    package.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = vendor.build("tiny", "--site", "test")
    result.refused(package.name, "Hash Sum mismatch", "hint:", "lock anew")
    assert list((vendor.cache / "debs").glob("*")) == []
    vendor.nothing_half_written()


def test_shipped_site_with_debian(place: Place, mirror: Vendors) -> None:
    """The site `vendor`, its vendors' addresses led to the mirror; Debian is the real one."""
    pool = mirror.server.root / "docker"
    sign(mirror.store, mirror.key, make_index(pool, name="bookworm", component="stable"))
    addresses = {"docker": "docker", "libnvidia": "toolkit", "cuda": "cuda"}
    site = yaml.safe_load((place.project / "config/sites/vendor.yaml").read_text())
    for archive in site["archives"][2:]:
        name = next(to for part, to in addresses.items() if part in archive["uri"])
        archive["uri"] = f"{mirror.server.uri}/{name}"
        archive["keyring"] = str(mirror.key.keyring)
        assert len(archive["fingerprints"]) == 1
        archive["fingerprints"] = [mirror.key.fingerprint]
    place.write("config/sites/test.yaml", yaml.safe_dump(site))
    place.write("config/profiles/mixed.yaml", _PROFILE)
    found = _locked(place, "mixed")
    given = {name: where for name, where in found.items() if "127.0.0.1" in where[1]}
    assert given == {
        "containerd.io": ("2.2.0-1~debian.12~bookworm", f"{mirror.server.uri}/docker"),
        "docker-ce": (DOCKER, f"{mirror.server.uri}/docker"),
        "docker-ce-cli": (DOCKER, f"{mirror.server.uri}/docker"),
        **dict.fromkeys(TOOLKIT, ("1.18.1-1", f"{mirror.server.uri}/toolkit")),
        "nvidia-driver-cuda": (BRANCH, f"{mirror.server.uri}/cuda"),
        **dict.fromkeys(DRIVER, (BRANCH, f"{mirror.server.uri}/cuda")),
    }
    assert {found[name][1] for name in DEBIAN if name in found} <= {
        "host:bookworm",
        "host:bookworm-security",
    }
    assert "bash" in found

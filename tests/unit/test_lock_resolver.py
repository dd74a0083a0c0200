"""From APT's answers to a lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.context import Context
from builder.core.errors import UserError
from builder.lock import resolver
from builder.lock.aptenv import AptEnv
from builder.lock.indexes import release_date
from builder.lock.mirror import base_addresses
from builder.lock.resolver import _package, request_digest, resolve_lock
from builder.model.lock import LockedWheel
from builder.model.site import Site
from tests.unit.driver_parts import RECIPE, gpu_spec
from tests.unit.fakes import FakeRunner, context, site, spec

MIRROR = "https://mirror.example/debian"
SHA = "2e6e2f1a0007dc43bc91c273fd36e91e40a4f1c2765a03eca68b70a42103878a"
LINES = {
    "?essential": f"'{MIRROR}/pool/main/b/bash/bash_5.2.15-2_amd64.deb' "
    f"bash_5.2.15-2_amd64.deb 7 SHA256:{SHA}",
    "alpha": f"'{MIRROR}/pool/main/a/alpha/alpha_2.0~rc1%2bb1_all.deb' "
    f"alpha_1%3a2.0~rc1+b1_all.deb 9 SHA256:{'a' * 64}",
}
NOISE = "Reading package lists...\nThe following NEW packages will be installed:\n"


def apt(*bases: str) -> AptEnv:
    return AptEnv(Path("/apt"), bases, FakeRunner())


def test_a_line_of_apt_becomes_a_package() -> None:
    package = _package(apt("http://other", MIRROR), LINES["alpha"], "image")
    assert package.version == "1:2.0~rc1+b1"
    assert (package.name, package.arch, package.size) == ("alpha", "all", 9)
    assert package.archive == 1
    assert package.path == "pool/main/a/alpha/alpha_2.0~rc1%2bb1_all.deb"
    assert package.file_name == "alpha_1%3a2.0~rc1+b1_all.deb"
    assert package.trees == ("image",)


def test_an_address_is_not_taken_for_a_longer_one() -> None:
    line = LINES["?essential"].replace("/debian/", "/debian-security/")
    package = _package(apt(MIRROR, f"{MIRROR}-security"), line, "image")
    assert package.archive == 1


def test_the_innermost_archive_has_the_package() -> None:
    line = f"'{MIRROR}/nvidia/./a_1_all.deb' a_1_all.deb 9 SHA256:{'a' * 64}"
    package = _package(apt(MIRROR, f"{MIRROR}/nvidia", f"{MIRROR}/nvidia"), line, "image")
    assert (package.archive, package.path) == (1, "a_1_all.deb")


@pytest.mark.parametrize("digest", ["MD5Sum:abc", "SHA256:abc", ""])
def test_a_package_without_a_sha256_cannot_be_locked(digest: str) -> None:
    line = f"'{MIRROR}/pool/a_1_all.deb' a_1_all.deb 9 {digest}"
    with pytest.raises(UserError, match="without a SHA-256"):
        _package(apt(MIRROR), line, "image")


def lists(folder: Path, *, signed: str = "InRelease") -> str:
    """Write what APT keeps of two suites; return its answer to indextargets."""
    told = ""
    for suite, day in (("bookworm", 1), ("bookworm-updates", 2)):
        stem = f"mirror.example_debian_dists_{suite}"
        (folder / f"{stem}_{signed}").write_text(f"Date: Thu, 0{day} Jan 2026 00:00:00 UTC\n")
        index = f"{folder}/{stem}_main_binary-amd64_Packages"
        told += f"{MIRROR}/ {suite} main/binary-amd64/Packages {index}\n"
    return told


def surroundings(tmp_path: Path, targets: str) -> Context:
    def answer(words: list[str]) -> str:
        if words[1] == "indextargets":
            return targets
        if words[1] == "install":
            return NOISE + "\n".join(LINES[name] for name in words if name in LINES)
        return ""

    (tmp_path / "config/sites").mkdir(parents=True)
    (tmp_path / "config/sites/site.gpg").write_text("key")
    return context(tmp_path, FakeRunner(answer))


@pytest.mark.parametrize("signed", ["InRelease", "Release"])
def test_a_lock_names_packages_trees_and_the_newest_date(tmp_path: Path, signed: str) -> None:
    wanted = spec(packages=["alpha"], tools=["alpha"])
    lock = resolve_lock(surroundings(tmp_path, lists(tmp_path, signed=signed)), wanted)
    assert [(p.name, p.trees) for p in lock.packages] == [
        ("alpha", ("image", "tools")),
        ("bash", ("image", "tools")),
    ]
    assert [suite.date for suite in lock.archives[0].suites] == [1767225600, 1767312000]
    assert lock.epoch == 1767312000
    assert lock.archives[0].uri == f"{MIRROR}/"
    assert lock.request == request_digest(wanted)


def test_the_archives_are_asked_before_packages(tmp_path: Path) -> None:
    where = surroundings(tmp_path, lists(tmp_path))
    resolve_lock(where, spec())
    runner = where.runner
    assert isinstance(runner, FakeRunner)
    assert runner.calls[0][:2] == ["apt-get", "update"]
    assert "APT::Update::Error-Mode=any" in runner.calls[0]
    assert not list((where.cache.root / "work").iterdir())


def test_the_request_follows_what_is_asked_for_and_where() -> None:
    base = request_digest(spec())
    assert request_digest(spec(profile_name="other", origins={})) == base
    renamed_key = site().archives[0].model_copy(update={"keyring": "renamed.gpg"})
    assert request_digest(spec(site=site(archives=[renamed_key.model_dump()]))) == base
    pins = [{"packages": "*", "release": "n=x"}]
    only = site().archives[0].model_copy(update={"only": ("alpha",)})
    others = [
        spec(site=site(minimum={"alpha": "2.0"})),
        spec(site=site(archives=[only.model_dump()])),
        spec(packages=["beta"]),
        spec(tools=["apt"]),
        spec(initrd={"packages": ["dash"], "modules": []}),
        spec(site=site(pins=pins)),
        spec(site=_moved(site())),
    ]
    assert base not in {request_digest(other) for other in others}


def test_the_node_s_wheels_are_locked_and_part_of_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RECIPE.model_copy(update={"wheels": ("nvidia-ml-py==12.575.51",)})
    wheel = LockedWheel(name="nvidia-ml-py", version="12.575.51", file_name="x.whl", sha256=SHA)
    calls: list[tuple[object, ...]] = []

    def lock_wheels(*words: object, needs: bool) -> tuple[LockedWheel, ...]:
        calls.append((*words[2:], needs))
        return (wheel,)

    monkeypatch.setattr(resolver, "lock_wheels", lock_wheels)
    with_wheels, without = gpu_spec(driver=asked), gpu_spec()
    lock = resolve_lock(surroundings(tmp_path, lists(tmp_path)), with_wheels)
    assert lock.without_container().wheels == (wheel,)
    assert calls == [(("nvidia-ml-py==12.575.51",), False)]
    assert request_digest(with_wheels) != request_digest(without)
    indexed = gpu_spec(driver=asked, site=site(wheels={"index": "https://pypi.example"}))
    assert request_digest(indexed) != request_digest(with_wheels)
    assert request_digest(gpu_spec(site=indexed.site)) == request_digest(without)


def _moved(where: Site) -> Site:
    archive = where.archives[0].model_copy(update={"uri": "https://snapshot.example/"})
    return where.model_copy(update={"archives": (archive,)})


def test_the_date_of_a_release_file() -> None:
    signed = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\n"
    assert release_date(f"{signed}Date: Sat, 11 Jul 2026 10:16:37 UTC\nX: y\n") == 1783764997


@pytest.mark.parametrize("text", ["<html>log in</html>", "Date: tomorrow\n", ""])
def test_what_has_no_date_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="Release file has no"):
        release_date(text)


HOST = "bookworm http://deb.example/debian/\nbookworm http://late.example/\nsec http://s.example\n"


def hosted(uri: str) -> Site:
    archive = {"uri": uri, "suites": ["bookworm"], "keyring": "k"}
    return site(archives=[archive, {**archive, "uri": f"{MIRROR}/"}])


def test_the_hosts_mirror_is_looked_up() -> None:
    runner = FakeRunner(lambda _: HOST)
    assert base_addresses(runner, hosted("host:bookworm")) == ("http://deb.example/debian", MIRROR)
    assert base_addresses(runner, hosted("host:sec")) == ("http://s.example", MIRROR)


@pytest.mark.parametrize("scheme", ["file", "copy"])
def test_a_folder_is_written_as_apt_does(scheme: str) -> None:
    archive = {"uri": f"{scheme}:///srv/mirror/", "suites": ["x"], "keyring": "k"}
    assert base_addresses(FakeRunner(), site(archives=[archive])) == ("copy:/srv/mirror",)


def test_the_host_is_not_asked_for_nothing() -> None:
    runner = FakeRunner()
    base_addresses(runner, site())
    assert runner.calls == []


def test_a_suite_the_host_does_not_have() -> None:
    with pytest.raises(UserError, match="no source for trixie") as caught:
        base_addresses(FakeRunner(lambda _: HOST), hosted("host:trixie"))
    assert caught.value.hint is not None
    assert "uri" in caught.value.hint

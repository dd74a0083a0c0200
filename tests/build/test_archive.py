"""Archives that cannot be reached or trusted: nothing of them gets into a lock."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.build.archives import PROJECT, Archives, edit, site
from tests.build.command import Place
from tests.build.conftest import STAGES, Warm


def _refused(place: Place, text: str, *words: str) -> None:
    place.write("config/sites/test.yaml", text)
    place.run("lock", "--profile", "tiny", "--site", "test").refused(*words, "hint:")
    assert not place.lock_file("tiny").exists()
    place.nothing_half_written()


def _locked(place: Place, text: str) -> None:
    place.write("config/sites/test.yaml", text)
    place.run("lock", "--profile", "tiny", "--site", "test").done()
    assert "tiny-initrd" in place.lock_file("tiny").read_text()
    place.nothing_at_work()


def test_good_archive_is_locked(tiny: Place, archives: Archives) -> None:
    _locked(tiny, archives.site("good", fingerprints=f"[{archives.good.fingerprint}]"))


def test_unreachable_mirror(tiny: Place, archives: Archives) -> None:
    with socket.socket() as closed:  # bound but not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        text = site(uri, archives.good.keyring)
        _refused(tiny, text, "Could not connect to 127.0.0.1", "check the network")


def test_address_without_an_archive(tiny: Place, archives: Archives) -> None:
    _refused(tiny, archives.site("nothing"), "does not have a Release file", "uri is wrong")


def test_unsigned_archive(tiny: Place, archives: Archives) -> None:
    _refused(tiny, archives.site("unsigned"), "is not signed", "a key of the site's keyring")


def test_archive_signed_by_another_key(tiny: Place, archives: Archives) -> None:
    _refused(tiny, archives.site("foreign"), "NO_PUBKEY", "a key of the site's keyring")


def test_forged_signature(tiny: Place, archives: Archives) -> None:
    _refused(tiny, archives.site("forged"), "BADSIG", "do not trust this mirror")


def test_index_tampered_with_after_signing(tiny: Place, archives: Archives) -> None:
    _refused(tiny, archives.site("tampered"), "Hash Sum mismatch", "damaged")


def test_expired_archive(tiny: Place, archives: Archives) -> None:
    _refused(tiny, archives.site("expired"), "expired", "check_valid_until: false")
    _locked(tiny, archives.site("expired", check_valid_until="false"))


def test_key_that_is_not_pinned(tiny: Place, archives: Archives) -> None:
    """The keyring holds the key, but the site accepts only another one of it."""
    ring = tiny.top / "both.gpg"
    ring.write_bytes(archives.good.keyring.read_bytes() + archives.other.keyring.read_bytes())
    uri, pinned = f"{archives.server.uri}/good", f"[{archives.other.fingerprint}]"
    _refused(tiny, site(uri, ring, fingerprints=pinned), "not among the site's fingerprints")
    _locked(tiny, site(uri, ring))


def test_missing_keyring(tiny: Place, archives: Archives) -> None:
    text = site(f"{archives.server.uri}/good", Path("/nonexistent.gpg"))
    _refused(tiny, text, "keyring /nonexistent.gpg", "debian-archive-keyring")


def test_package_that_does_not_exist(tiny: Place, archives: Archives) -> None:
    profile = PROJECT["config/profiles/tiny.yaml"]
    included = profile.replace("[tiny]}", "[tiny], include: [no-such-package]}")
    tiny.write("config/profiles/tiny.yaml", included)
    _refused(tiny, archives.site("good"), "no-such-package", "check the name")


def test_lock_for_other_packages(tiny: Place, archives: Archives) -> None:
    _locked(tiny, archives.site("good"))
    tiny.write("image/packages/tiny.yaml", "- tiny-base\n- tiny-tool\n")
    result = tiny.build("tiny", "--site", "test")
    result.refused("the lock is for other packages", "hint: lock anew: imgbuild lock")
    tiny.nothing_half_written()


def test_mirror_that_serves_another_file(tiny: Place, archives: Archives) -> None:
    """A package whose hash differs from the lock is refused, and does not reach the cache."""
    _locked(tiny, archives.site("good"))
    lock = tiny.lock_file("tiny")
    digest = lock.read_text().partition('"sha256": "')[2][:64]
    edit(lock, digest, "0" * 64)
    result = tiny.build("tiny", "--site", "test")
    result.refused("tiny-base_1.0_amd64.deb", "Hash Sum mismatch", "hint:", "lock anew")
    assert not (tiny.cache / "debs" / f"{'0' * 64}.deb").exists()
    tiny.nothing_half_written()


def test_damaged_package_in_the_cache(tiny: Place, archives: Archives) -> None:
    _locked(tiny, archives.site("good"))
    digest = tiny.lock_file("tiny").read_text().partition('"sha256": "')[2][:64]
    damaged = tiny.cache / "debs" / f"{digest}.deb"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not the package")
    tiny.build("tiny", "--site", "test").refused(
        "tiny-base_1.0_amd64.deb: SHA-256 is", "the lock says", "hint:", "build again"
    )
    assert not damaged.exists()
    tiny.nothing_half_written()


def test_damaged_package_of_the_initrd(built: Place, warm: Warm) -> None:
    """The initrd unpacks its packages itself, and checks them too."""
    warm.fill(built.cache, [name for name in STAGES if name != "initrd"])
    package = next(p for p in warm.lock.tree("initrd") if p.name == "kmod")
    damaged = built.cache / "debs" / f"{package.sha256}.deb"
    damaged.unlink()  # a link into another cache: not to be written through
    damaged.write_bytes(b"not the package")
    built.build().refused(f"{package.file_name}: SHA-256 is", "hint:", "build again")
    built.nothing_half_written()


def test_lock_that_is_no_lock(tiny: Place, archives: Archives) -> None:
    tiny.write("config/sites/test.yaml", archives.site("good"))
    tiny.write("config/locks/tiny.lock.json", '{"schema_version": 1, "packages"')
    tiny.build("tiny", "--site", "test").refused("tiny.lock.json: not a lock", "hint:")
    tiny.nothing_half_written()


def test_locked_without_a_lock(tiny: Place, archives: Archives) -> None:
    tiny.write("config/sites/test.yaml", archives.site("good"))
    result = tiny.build("tiny", "--site", "test", "--locked")
    result.refused("there is no lock", "hint: imgbuild lock --profile tiny --site test")
    tiny.nothing_half_written()


def test_version_that_cannot_name_a_file(tiny: Place, archives: Archives) -> None:
    _locked(tiny, archives.site("good"))
    for version, words in (("1_0", "characters"), ("1" * 40, "at most 36")):
        tiny.build("tiny", "--site", "test", "--version", version).refused(words, "hint: use")
    tiny.nothing_half_written()

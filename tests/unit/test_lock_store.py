"""Lock files on disk, and packages in the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from builder.core.bootstrap import deb_path
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.lock.fetch import fetch
from builder.lock.resolver import request_digest
from builder.lock.store import read_lock, write_lock
from builder.model.lock import Lock, LockedPackage
from tests.unit.fakes import EPOCH, FakeRunner, context, lock, package, site, spec


def fitting(*packages: LockedPackage) -> Lock:
    return lock(*packages, request=request_digest(spec()))


def test_a_lock_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "locks/cpu.lock.json"
    write_lock(path, fitting())
    assert read_lock(path, spec()) == fitting()
    text = path.read_text()
    write_lock(path, fitting())
    assert path.read_text() == text
    assert text.endswith("}\n")


def test_a_lock_for_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cpu.lock.json"
    write_lock(path, fitting())
    with pytest.raises(UserError, match="for other packages, archives or pins") as caught:
        read_lock(path, spec(packages=["alpha", "beta"]))
    assert caught.value.hint == "lock anew: imgbuild lock --profile cpu --site debian"


def test_a_lock_changed_to_take_another_archive_is_refused(tmp_path: Path) -> None:
    archive = {"uri": "https://x.example", "suites": ["x"], "keyring": "k", "only": ["docker-ce"]}
    wanted = spec(site=site(archives=[archive]))
    path = tmp_path / "cpu.lock.json"
    write_lock(path, lock(package("docker-ce"), request=request_digest(wanted)))
    assert read_lock(path, wanted)
    path.write_text(path.read_text().replace("docker-ce", "bash"))
    with pytest.raises(UserError, match=r"bash 1:2\.0-1 comes from https://x\.example"):
        read_lock(path, wanted)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": 2}'])
def test_a_damaged_file_is_no_lock(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "cpu.lock.json"
    path.write_bytes(damage)
    with pytest.raises(UserError, match="not a lock") as caught:
        read_lock(path, spec())
    assert caught.value.what.startswith(f"{path}: ")
    assert "\n" not in caught.value.what


@pytest.mark.parametrize(
    ("old", "new"),
    [('"sha256": "0000', '"sha256": "000G'), ('"profile"', '"prfile"'), ('"image"', '"imag"')],
)
def test_a_lock_changed_by_hand_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "cpu.lock.json"
    write_lock(path, fitting())
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match="not a lock"):
        read_lock(path, spec())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Archive:
    """apt-helper's stand-in: serves content by address; `calls` holds what was asked."""

    def __init__(self, tmp_path: Path, **content: bytes) -> None:
        (tmp_path / "config/sites").mkdir(parents=True)
        (tmp_path / "config/sites/site.gpg").write_text("key")
        self.content = content
        self.runner = FakeRunner(self._answer)
        self.context: Context = context(tmp_path, self.runner)

    def _answer(self, words: list[str]) -> str:
        assert words[:2] == ["/usr/lib/apt/apt-helper", "download-file"]
        for address, target in zip(words[2::3], words[3::3], strict=True):
            name = address.rpartition("/")[2].partition("_")[0]
            if name not in self.content:
                raise CommandError("apt-helper", "exit status 100", f"E: Failed to fetch {address}")
            Path(target).write_bytes(self.content[name])
        return ""

    def held(self) -> list[str]:
        return sorted(path.name for path in (self.context.cache.root / "debs").glob("*"))


def test_packages_are_fetched_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path, alpha=b"aaa", beta=b"bbb")
    wanted = lock(package("alpha", digest(b"aaa")), package("beta", digest(b"bbb")))
    fetch(archive.context, spec(), wanted)
    fetch(archive.context, spec(), wanted)
    (words,) = archive.runner.calls
    assert words[2] == "https://mirror.example/debian/pool/alpha_2.0-1_amd64.deb"
    assert words[4] == f"SHA256:{digest(b'aaa')}"
    assert deb_path(archive.context.cache.root, wanted.packages[0]).read_bytes() == b"aaa"
    assert len(archive.held()) == 2
    assert list((archive.context.cache.root / "work").iterdir()) == []


def test_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    archive = Archive(tmp_path, alpha=b"aaa", beta=b"bbb")
    alpha, beta = package("alpha", digest(b"aaa")), package("beta", digest(b"bbb"))
    fetch(archive.context, spec(), lock(alpha))
    fetch(archive.context, spec(), lock(alpha, beta))
    assert len(archive.runner.calls[1]) == 5
    assert "beta" in archive.runner.calls[1][2]


def test_another_file_is_refused_and_not_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path, alpha=b"evil")
    with pytest.raises(UserError, match="the lock says") as caught:
        fetch(archive.context, spec(), lock(package("alpha", digest(b"aaa"))))
    assert digest(b"evil") in caught.value.what
    assert caught.value.hint is not None
    assert "do not build from it" in caught.value.hint
    assert archive.held() == []
    assert list((archive.context.cache.root / "work").iterdir()) == []


def test_a_package_that_is_gone(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    with pytest.raises(UserError, match="cannot be fetched") as caught:
        fetch(archive.context, spec(), lock(package("alpha", digest(b"aaa"))))
    assert "alpha_2.0-1_amd64.deb" in caught.value.what
    assert caught.value.hint is not None
    assert "lock anew" in caught.value.hint


def test_the_lock_tells_its_trees_apart() -> None:
    both = package("alpha", trees=("image", "tools"))
    made = lock(both, package("beta", trees=("tools",)))
    assert made.tree("image") == (both,)
    assert made.digest_inputs("tools")[1].startswith("beta=1:2.0-1:amd64 ")
    assert made.epoch == EPOCH

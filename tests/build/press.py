"""A project, keys and a repository to release small images in; the real commands."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.build.command import Place
from tests.build.small_image import IMAGE_ID, make_image

STABLE = ("--channel", "stable")
ONLY = ("--channel", f"{IMAGE_ID}/stable")


@dataclass(frozen=True)
class Press:
    """A project, a folder of keys and a repository; runs the real commands."""

    place: Place

    @property
    def repository(self) -> Path:
        return self.place.top / "repo"

    def secret(self, name: str) -> Path:
        return self.place.top / "keys" / f"{name}.secret.asc"

    def public(self, name: str) -> Path:
        return self.place.top / "keys" / f"{name}.gpg"

    def image(self, version: str, **more: tuple[int, ...]) -> Path:
        """Return the folder of a small image, made where it is not there yet."""
        folder = self.place.top / "images" / version
        return folder if folder.exists() else make_image(folder, version, **more)

    def key(self, name: str, *words: str) -> None:
        """Make a key."""
        folder = str(self.place.top / "keys")
        self.place.run("keys", "new", "--to", folder, "--name", name, *words).done()

    def words(self, version: str, *more: str, key: str = "one") -> tuple[str, ...]:
        """Return the command line that releases a version."""
        to = ("--to", str(self.repository), "--key", str(self.secret(key)))
        return ("release", str(self.image(version)), *to, *more)

    def release(self, version: str, *more: str, key: str = "one") -> None:
        """Release a version of the small image."""
        self.place.run(*self.words(version, *more, key=key)).done()

    def folder(self, version: str) -> Path:
        """Return the folder of a released version."""
        return self.repository / IMAGE_ID / version

    def channel(self, name: str) -> Path:
        """Return the file of a channel."""
        return self.repository / "channels" / IMAGE_ID / f"{name}.json.asc"

    def verify(self, *more: str, key: str = "one", where: str | Path | None = None) -> list[str]:
        """Check the repository; return what is bad with it. The command must end as it says."""
        words = ("verify", str(where or self.repository), "--keyring", str(self.public(key)))
        ended = self.place.run(*words, *more)
        assert "Traceback" not in ended.err, ended.err
        bad = [line for line in ended.out.splitlines() if line.startswith("BAD: ")]
        assert ended.code == (1 if bad else 0), ended
        assert bad or "good: " in ended.out
        return [line.removeprefix("BAD: ") for line in bad]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Press]:
    """Two versions in a repository, the channel stable at the second; to be copied."""
    press = _press(tmp_path_factory.mktemp("printed"))
    press.key("one")
    press.key("two")
    press.image("1.0")
    press.image("1.1", layers=(1, 2))
    press.release("1.0")
    press.release("1.1", *STABLE, "--minimum", "1.0", "--with-disk")
    yield press
    shutil.rmtree(press.place.top)


@pytest.fixture
def press(tmp_path: Path, printed: Press) -> Press:
    """A copy of it all, to be changed."""
    made = _press(tmp_path)
    for name in ("keys", "images", "repo"):
        shutil.copytree(printed.place.top / name, tmp_path / name)
    return made


def _press(top: Path) -> Press:
    place = Place(top)
    place.write("image/initrd.yaml", "")
    (place.project / "config").mkdir()
    return Press(place)


def run(*words: str, cwd: Path) -> None:
    """Run a program, which must end well."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def gpg_of(press: Press) -> Iterator[tuple[str, ...]]:
    """Give the words that call gpg with the secret key `one`; its agent is ended afterwards."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # a short path: sockets have 108 characters
    gpg = ("gpg", "--batch", "--quiet", "--homedir", str(home))
    try:
        run(*gpg, "--import", str(press.secret("one")), cwd=home)
        yield gpg
    finally:
        run("gpgconf", "--homedir", str(home), "--kill", "all", cwd=home)
        shutil.rmtree(home, ignore_errors=True)  # its agent removes sockets meanwhile

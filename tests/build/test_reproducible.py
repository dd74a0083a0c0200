"""One lock, two builds under different circumstances: the same bytes in every file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.build.command import IMGBUILD, ROOMS, Place, copy_project
from tests.build.conftest import Warm
from tests.build.same import assert_same_bytes

_OLD = 1_000_000_000  # 2001: older than any lock, so that no clamping hides it


def test_every_artifact_is_the_same(warm: Warm, tmp_path: Path) -> None:
    """Another cache, checkout, time zone, umask, language and home: nothing of it shows."""
    other = Place(tmp_path / "a somewhat longer path")
    copy_project(warm.place.project, other.project, link=False)
    _make_checkout_odd(other.project)
    warm.fill(other.cache, ())
    home = tmp_path / "home"
    home.mkdir()
    env = {
        "IMGBUILD_PROJECT": str(other.project),
        "IMGBUILD_CACHE": str(other.cache),
        "TZ": "Pacific/Auckland",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONHASHSEED": "7",
    }
    words = [str(IMGBUILD), "build", "--profile", "bare", "--no-cache", "--out", str(other.out)]
    done = subprocess.run(
        words, env={**os.environ, **env}, umask=0o077, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_same_bytes(warm.place.out, other.out)
    assert list(home.iterdir()) == []
    other.nothing_at_work()


def _make_checkout_odd(project: Path) -> None:
    """Let the files be old and private: git keeps neither times nor modes but `x`."""
    for room in ROOMS:
        for path in (project / room).rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)
                os.utime(path, (_OLD, _OLD))

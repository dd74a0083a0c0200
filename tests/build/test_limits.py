"""What does not fit: a full disk, a slot that is too small."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.build.archives import Archives
from tests.build.command import Place
from tests.build.conftest import STAGES, Warm

_TOLD = ("no space left", "hint: imgbuild cache prune, or a larger disk")
Small = Callable[[Path, int], None]


@pytest.fixture
def small() -> Iterator[Small]:
    """Give a function that makes a folder a file system of so many MiB."""
    with ExitStack() as mounted:

        def mount(folder: Path, size_mib: int) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            words = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "test", str(folder)]
            subprocess.run(words, check=True)
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)

        yield mount


@pytest.mark.parametrize(
    ("stage", "size_mib"),
    [("tools", 64), ("base", 64), ("initrd", 16), ("root", 96), ("image", 96)],
)
def test_cache_on_a_full_disk(
    built: Place, warm: Warm, small: Small, stage: str, size_mib: int
) -> None:
    """Packages and earlier stages lie elsewhere; this stage finds no room."""
    elsewhere = built.top / "elsewhere"
    warm.fill(elsewhere, [name for name in STAGES if name not in (stage, "image")])
    small(built.cache, size_mib)
    (built.cache / "stages").mkdir()
    (built.cache / "debs").symlink_to(elsewhere / "debs")
    for folder in (elsewhere / "stages").iterdir():
        (built.cache / "stages" / folder.name).symlink_to(folder)
    built.build().refused(*_TOLD)
    assert not list((built.cache / "stages").glob(f"{stage}/*"))
    built.nothing_half_written()


def test_output_on_a_full_disk(built: Place, warm: Warm, small: Small) -> None:
    warm.fill(built.cache)
    small(built.out.parent, 100)
    built.build().refused(*_TOLD)
    built.nothing_half_written()


def test_lock_on_a_full_disk(tiny: Place, archives: Archives, small: Small) -> None:
    tiny.write("config/sites/test.yaml", archives.site("good"))
    locks = tiny.project / "config/locks"
    small(locks, 1)
    (locks / "other.lock.json").write_bytes(bytes(1 << 20))
    tiny.run("lock", "--profile", "tiny", "--site", "test").refused(*_TOLD)
    assert not tiny.lock_file("tiny").exists()
    tiny.nothing_half_written()


def test_slot_too_small_for_the_root(built: Place, warm: Warm) -> None:
    warm.fill(built.cache, ("tools", "base", "initrd"))
    text = "extends: bare\ndescription: a test\ndisk: {root: 64MiB}\n"
    built.write("config/profiles/small.yaml", text)
    lock = warm.lock.model_copy(update={"profile": "small"})
    built.lock_file("small").write_text(lock.model_dump_json())
    built.build("small").refused(
        "the slot only 64 MiB", "config/profiles/small.yaml: disk.root", "hint: set disk.root to at"
    )
    built.nothing_half_written()

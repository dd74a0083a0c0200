"""Docker's store on /var: made anew at each boot, filled with what is mounted, mended after.

A node is immutable and keeps its models and caches elsewhere, so nothing is lost: the tenth
boot is like the first, a power cut cannot leave a broken store, and no container can refer to
layers of the other slot. Later in a boot containers may run: then only what lacks is written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from imgnode.layers.mounts import MOUNTS, mount_points
from imgnode.layers.overlay2 import REFERENCES, Entry, plan, references
from imgnode.payload import ContainerImage
from imgnode.problems import Problem

DATA = Path("var/lib/docker")
_HOMES = (DATA, Path("var/lib/containerd"))
_MARKER = Path("run/imgnode/docker-seeded")
_ASIDE = ".imgnode-old"
_DAEMONS = {"containerd": "containerd.service", "dockerd": "docker.service"}
_FOLDER, _FILE = 0o700, 0o600


def renew(root: Path = Path("/")) -> list[Problem]:
    """Empty the homes of Docker and containerd, once per boot. Raises OSError."""
    marker = root / _MARKER
    if marker.exists():
        return []
    running = daemons(root)
    if running:
        fact = f"{' and '.join(running)} ran before this boot's first run: only mended"
        units = " ".join(["docker.socket", *(_DAEMONS[name] for name in running)])
        return [Problem("docker", fact, f"systemctl stop {units}; imgnode layers apply")]
    points = mount_points(root)
    problems = [problem for home in _HOMES for problem in empty(root / home, points)]
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return problems


def daemons(root: Path = Path("/")) -> list[str]:
    """Return which of Docker's daemons run."""
    found = set()
    for path in (root / "proc").glob("[0-9]*/comm"):
        try:
            found.add(path.read_text().strip())
        except OSError:  # it has ended
            continue
    return sorted(found & _DAEMONS.keys())


def empty(folder: Path, points: Iterable[Path]) -> list[Problem]:
    """Remove all that lies in a folder; links are removed, never followed. Raises OSError.

    Everything goes aside first, so that Docker sees nothing of it even when the power goes.
    What has something mounted on or below it stays, and is told.
    """
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    if not folder.is_dir():
        return []
    aside = folder / _ASIDE
    if aside.is_symlink() or aside.is_file():
        aside.unlink()
    aside.mkdir(mode=_FOLDER, exist_ok=True)
    under = {one for point in points for one in (point, *point.parents)}
    problems = []
    for child in sorted(folder.iterdir()):
        if child in under:
            hint = "umount it; it is removed at the next boot"
            problems.append(Problem("docker", f"{child} stays: something is mounted there", hint))
        elif child != aside:
            _move(child, aside)
    if aside not in under:
        shutil.rmtree(aside)
    return problems


def seed(container: ContainerImage, root: Path = Path("/")) -> int:
    """Write what the store lacks of an image; return how many entries were written.

    All its layers must be mounted. Small files, not flushed: the store lasts for one boot.
    Raises OSError, or ValueError for an image that does not fit its own digests.
    """
    data = root / DATA
    written = sum(_write(entry, data) for entry in plan(container, root / MOUNTS))
    try:
        present = (data / REFERENCES).read_text(errors="replace")
    except FileNotFoundError:
        present = None
    return written + _write(Entry(REFERENCES, "file", references(container, present)), data)


def _write(entry: Entry, data: Path) -> bool:
    """Bring one entry into being; tell whether it lacked or differed."""
    path = data / entry.path
    if _is_there(path, entry):
        return False
    for folder in reversed([one for one in path.parents if one.is_relative_to(data)]):
        folder.mkdir(parents=folder == data, exist_ok=True, mode=_FOLDER)
    if path.is_dir() and not path.is_symlink():
        aside = data / _ASIDE
        aside.mkdir(mode=_FOLDER, exist_ok=True)
        _move(path, aside)
    if entry.kind == "folder":
        path.unlink(missing_ok=True)
        path.mkdir(mode=_FOLDER)
        return True
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    if entry.kind == "link":
        new.symlink_to(entry.content)
    else:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE)
        with os.fdopen(handle, "w") as stream:
            stream.write(entry.content)
    new.replace(path)
    return True


def _is_there(path: Path, entry: Entry) -> bool:
    if entry.kind == "link":
        return path.is_symlink() and str(path.readlink()) == entry.content
    if path.is_symlink():
        return False
    if entry.kind == "folder":
        return path.is_dir()
    return path.is_file() and path.read_bytes() == entry.content.encode()


def _move(path: Path, aside: Path) -> None:
    """Rename into a folder, under a number that is free there."""
    number = 0
    while os.path.lexists(aside / str(number)):
        number += 1
    path.rename(aside / str(number))

"""Docker's leftovers: stopped containers, images that no version brings, the cache of builds.

The store is made anew at each boot from the version's layers; what goes here was pulled or made by
hand since. `docker image prune --all` would take the version's image where no container runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imgnode import process
from imgnode.payload import read_payload
from imgnode.serve.copied import copy_id
from imgnode.serve.names import NAME

_ASK_S, _ACT_S = 60, 300
_AGE = "24h"
_STOPPED = tuple(f"--filter=status={one}" for one in ("created", "exited", "dead"))
_DOCKER = Path("usr/bin/docker")
_CONTAINER, _IMAGE = "{{.ID}} {{.Names}}", "{{.ID}} {{.Repository}}:{{.Tag}}"


def clean(root: Path = Path("/"), *, dry_run: bool = False) -> Iterator[str]:
    """Remove them, and yield what went. Raises ValueError where Docker does not answer."""
    if not (root / _DOCKER).exists():
        return
    argv = ("container", "ls", "--all", "--no-trunc", *_STOPPED, f"--format={_CONTAINER}")
    for number, name in _docker(*argv):
        if name != NAME:  # vllm.service sees to its own
            if not dry_run:
                _docker("container", "rm", number)
            yield f"container {name}"
    kept = {*_kept(root), *_used()}
    for number, name in _docker("image", "ls", "--no-trunc", f"--format={_IMAGE}"):
        if number.removeprefix("sha256:") in kept:
            continue
        if dry_run or _removed(number, name):
            yield f"image {name}"
    if not dry_run:
        _docker("builder", "prune", "--force", f"--filter=until={_AGE}")


def _kept(root: Path) -> set[str]:
    """Return the IDs of the version's own image, seeded or copied."""
    container = read_payload(root).container
    if container is None:
        return set()
    copied = copy_id(container, root) or ""
    return {container.image_id, copied.removeprefix("sha256:")}


def _used() -> set[str]:
    """Return the IDs of the images of all containers; one of them may lose none of its names."""
    numbers = [row[0] for row in _docker("container", "ls", "--all", "--quiet")]
    told = _docker("container", "inspect", "--format={{.Image}}", *numbers) if numbers else []
    return {row[0].removeprefix("sha256:") for row in told}


def _removed(number: str, name: str) -> bool:
    """Remove one name of an image, or one without a name; tell whether that was done."""
    word = number if "<none>" in name else name
    return process.run(["docker", "image", "rm", word], timeout_s=_ACT_S).rc == 0


def _docker(*words: str) -> list[list[str]]:
    done = process.run(["docker", *words], timeout_s=_ACT_S if "prune" in words else _ASK_S)
    if done.rc:
        raise ValueError(f"docker {words[0]}: {' '.join(done.stderr.split())[:300]}")
    return [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]

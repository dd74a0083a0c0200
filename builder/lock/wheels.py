"""From requirements to wheels by name, version and digest, as pip resolves them; and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.hashing import sha256_file
from builder.core.wheels import wheel_path
from builder.lock.pip import check_python, run_pip
from builder.model.lock import Lock, LockedWheel
from builder.model.site import Site
from builder.model.spec import Spec


def lock_wheels(
    context: Context, site: Site, requirements: Sequence[str], *, needs: bool = True
) -> tuple[LockedWheel, ...]:
    """Return the newest fitting wheels for `requirements`, sorted by name.

    With `needs`, also all that they depend on. Raises UserError when pip finds none.
    """
    check_python()
    with context.cache.workspace("wheels") as work:
        report = work / "report.json"
        words = ["--dry-run", "--ignore-installed", "--report", str(report)]
        words += [] if needs else ["--no-deps"]
        run_pip(context.runner, site, "install", *words, *requirements)
        entries = json.loads(report.read_text())["install"]
        wheels = [_wheel(context, site, entry, work) for entry in entries]
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def normalised(name: str) -> str:
    """Return a project's name in the one form that indexes compare (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _wheel(context: Context, site: Site, entry: dict[str, Any], work: Path) -> LockedWheel:
    """Return one entry of pip's installation report as a wheel of the lock."""
    url = entry["download_info"]["url"]
    archive = entry["download_info"].get("archive_info", {})
    hashes = archive.get("hashes") or dict([archive.get("hash", "=").split("=", 1)])
    name, version = entry["metadata"]["name"], entry["metadata"]["version"]
    file_name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not file_name.endswith(".whl"):
        raise UserError(
            f"{name} {version}: {file_name} is not a wheel",
            hint="name a version of which the index has a wheel",
        )
    digest = hashes.get("sha256") or _digest(context, site, f"{name}=={version}", file_name, work)
    return LockedWheel(name=normalised(name), version=version, file_name=file_name, sha256=digest)


def _digest(context: Context, site: Site, exact: str, file_name: str, work: Path) -> str:
    """Return the digest of a wheel whose index gives none, by fetching it into the cache."""
    run_pip(context.runner, site, "download", "--no-deps", "--dest", work, exact)
    fetched = work / file_name
    digest = sha256_file(fetched)
    _place(fetched, context.cache.root / "wheels" / digest / file_name)
    return digest


def fetch_wheels(context: Context, spec: Spec, lock: Lock) -> None:
    """Fetch every wheel of the lock that the cache does not hold.

    Afterwards `wheel_path` names a file with the locked digest for each. Raises UserError
    when one cannot be had or has another digest.
    """
    root = context.cache.root
    missing = [wheel for wheel in _all(lock) if not wheel_path(root, wheel).is_file()]
    if not missing:
        return
    context.emit(Note("info", f"fetching {len(missing)} wheels"))
    with context.cache.workspace("wheels") as work:
        wanted = work / "requirements.txt"
        lines = [f"{w.name}=={w.version} --hash=sha256:{w.sha256}" for w in missing]
        wanted.write_text("\n".join(dict.fromkeys(lines)) + "\n")
        files = work / "files"
        words = ["--no-deps", "--require-hashes", "--requirement", str(wanted)]
        run_pip(context.runner, spec.site, "download", *words, "--dest", files)
        for wheel in missing:
            _keep(root, wheel, files / wheel.file_name)


def _all(lock: Lock) -> Iterable[LockedWheel]:
    container = lock.container.wheels if lock.container else ()
    bundled = [wheel for bundle in lock.bundles.values() for wheel in bundle]
    everything = [*container, *bundled, *lock.wheels]
    return {wheel.sha256: wheel for wheel in everything}.values()


def _keep(root: Path, wheel: LockedWheel, fetched: Path) -> None:
    actual = sha256_file(fetched) if fetched.is_file() else "missing"
    if actual != wheel.sha256:
        raise UserError(
            f"{wheel.file_name}: SHA-256 is {actual}, the lock says {wheel.sha256}",
            hint="the index serves another file for this version: lock anew",
        )
    _place(fetched, wheel_path(root, wheel))


def _place(fetched: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(final)

"""Installs locked packages into an empty folder with mmdebstrap(1), and nothing else.

The packages lie in a local repository that holds exactly the locked files, each name in
one version, so APT has nothing to choose. What was installed is compared afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from builder.core.errors import UserError
from builder.core.files import link_or_copy
from builder.core.hashing import checked
from builder.core.process import Runner
from builder.model.lock import LockedPackage

# Documentation and translations cost space and time; licences stay.
_DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/i18n/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/bash-completion/*",
)


def deb_path(cache: Path, package: LockedPackage) -> Path:
    """Return where the cache folder keeps a package."""
    return deb_file(cache, package.sha256)


def deb_file(cache: Path, sha256: str) -> Path:
    """Return where the cache folder keeps the package with this digest."""
    return cache / "debs" / f"{sha256}.deb"


def checked_deb(cache: Path, package: LockedPackage) -> Path:
    """Return where the cache, which must hold it, keeps a package.

    Raises UserError when the cached file no longer has its locked digest.
    """
    return checked(deb_path(cache, package), package.sha256, package.file_name)


def local_repository(
    runner: Runner, cache: Path, packages: Iterable[LockedPackage], folder: Path
) -> None:
    """Make `folder` a flat APT repository of the packages, which the cache must hold.

    Raises UserError when a cached file no longer has its locked digest.
    """
    folder.mkdir(parents=True)
    for package in packages:
        # No symbolic links: apt-ftparchive writes where they lead where that path is shorter.
        link_or_copy(runner, checked_deb(cache, package), folder / package.file_name)
    index = runner.run(["apt-ftparchive", "packages", "."], cwd=folder).stdout
    (folder / "Packages").write_text(index)


def mmdebstrap_argv(
    repository: Path,
    packages: Sequence[LockedPackage],
    target: Path,
    *,
    hooks: Sequence[str] = (),
) -> list[str]:
    """Return the mmdebstrap command that installs exactly `packages` into `target`."""
    exact = ",".join(f"{package.name}={package.version}" for package in packages)
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=essential",
        "--format=directory",
        "--quiet",
        *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *hooks,
        f"--include={exact}",
        "",
        str(target),
        f"deb [trusted=yes] copy:{quote(str(repository))} ./",
    ]


def check_installed(runner: Runner, root: Path, packages: Iterable[LockedPackage]) -> None:
    """Compare what dpkg says is installed in `root` with the lock; raise UserError on a gap."""
    listing = runner.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show",
         "--showformat=${Package} ${Version} ${Architecture} ${db:Status-Status}\n"]
    )  # fmt: skip
    actual = set(listing.stdout.splitlines())
    wanted = {f"{p.name} {p.version} {p.arch} installed" for p in packages}
    if actual != wanted:
        extra, gone = sorted(actual - wanted)[:5], sorted(wanted - actual)[:5]
        raise UserError(
            f"what was installed is not what the lock names: besides {extra}, without {gone}",
            hint="lock anew; if it happens again, report it with the lock file",
        )

"""The keyring against which a node checks releases; in the root, where verity vouches for it."""

from __future__ import annotations

from pathlib import Path

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.gpg import need_programs, public_keyring
from builder.model.site import ReleaseKeys, Site
from imgnode.release.signature import KEYRING

# systemd-sysupdate's own place (systemd-pull; /etc/systemd/import-pubring.gpg comes first there).
_SYSTEMD = Path("usr/lib/systemd/import-pubring.gpg")


def release_key_files(sites: Path, site: Site) -> list[Path]:
    """Return the site's files of release keys; raises UserError when one is not there."""
    found = []
    for number, keys in enumerate(site.release_keys):
        path = sites / keys.keyring
        if not path.is_file():
            raise UserError(
                f"site: release_keys[{number}].keyring: {path}: there is no such file",
                hint="imgbuild keys new makes a key: put its public half beside the site file",
            )
        found.append(path)
    return found


def check_release_keys(context: Context, site: Site) -> None:
    """Look at the site's release keys before anything is built.

    Raises UserError for a file that is no keyring, holds a secret key, a key that has expired,
    or others than are pinned.
    """
    with context.cache.workspace("release-keys") as work:
        _write_keyring(context, site, work / KEYRING.name)


def lay_release_keys(context: Context, site: Site, root: Path) -> None:
    """Put the site's release keys into the root, where it has any; raises as the check does."""
    target = root / KEYRING
    target.parent.mkdir(exist_ok=True)
    if not _write_keyring(context, site, target):
        return
    target.chmod(0o644)
    link = root / _SYSTEMD
    link.unlink(missing_ok=True)
    link.symlink_to(Path("/", KEYRING))


def _write_keyring(context: Context, site: Site, target: Path) -> bool:
    """Write all keys of the site to one keyring; tell whether there are any."""
    files = release_key_files(context.project.sites, site)
    if files:
        need_programs("gpg", "bwrap")
    for number, (keys, path) in enumerate(zip(site.release_keys, files, strict=True)):
        _check(context, f"site: release_keys[{number}]", keys, path, target)
    return bool(files)


def _check(context: Context, where: str, keys: ReleaseKeys, path: Path, target: Path) -> None:
    """Add one file to the keyring, after a look at each of its keys."""
    found = public_keyring(context.runner, [path], target)
    for key in found:
        if not key.usable:
            hint = "nodes would refuse what it signs: name another key"
            raise UserError(f"{where}: {key.fingerprint} has expired or was revoked", hint=hint)
    there, pinned = {key.fingerprint for key in found}, set(keys.fingerprints)
    if pinned and there != pinned:
        raise UserError(
            f"{where}: {path} holds {', '.join(sorted(there))}, not what fingerprints names",
            hint="imgbuild keys show tells what is in a file",
        )

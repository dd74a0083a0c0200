"""A private APT: the site's archives, keys and pins, nothing of the build host."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import CommandError, Finished, Runner
from builder.core.sandbox import tied
from builder.lock.mirror import base_addresses
from builder.model.site import Archive, Pin, Site

_SYSTEM_KEYRINGS = Path("/usr/share/keyrings")
_COMPLAINT = re.compile(r"[EW]:|Err:|Error:| +(\S+ : )?(Pre)?(Depends|Conflicts|Breaks): ")
# What APT says, and what the user can do about it; the first match is told.
_HINTS = (
    (r"BADSIG|invalid signature|Clearsigned file isn't valid", "do not trust this mirror now"),
    (r"EXPKEYSIG|REVKEYSIG", "the signing key has expired or was revoked: renew the keyring"),
    (
        r"not available: GOODSIG",
        "the archive is signed by a key of the keyring that is not among the site's fingerprints",
    ),
    (r"NO_PUBKEY|not signed", "the archive is not signed by a key of the site's keyring"),
    (
        r"is not valid yet|Release file .* expired",
        "check the clock, or the mirror is stale; for a snapshot set check_valid_until: false",
    ),
    (
        r"Unable to locate package|has no installation candidate",
        "check the name, and the site's suites and components",
    ),
    (r"[Hh]ash [Ss]um mismatch", "the mirror is being changed or is damaged: try again"),
    (
        r"does not have a Release file",
        "the mirror has no such suite, or the archive's uri is wrong",
    ),
    (
        r"Could not resolve|Could not connect|Connection failed|Unable to connect|Failed to fetch"
        r"|404",
        "check the network, the site's archives and its proxy",
    ),
    (
        r"unmet dependencies|held broken packages",
        "two packages exclude each other, or a pin hides one that is needed",
    ),
)


@dataclass(frozen=True)
class AptEnv:
    """A prepared APT folder; `bases` are the addresses of the site's archives."""

    folder: Path
    bases: tuple[str, ...]
    runner: Runner

    def run(self, *words: str) -> Finished:
        """Run an APT program with this configuration; its complaints become UserErrors."""
        env = {"APT_CONFIG": str(self.folder / "apt.conf"), "TMPDIR": str(self.folder / "cache")}
        try:
            return self.runner.run(tied(words), env=env, called=words[0])
        except CommandError as error:
            raise _explained(error) from None


def prepare(runner: Runner, site: Site, sites_folder: Path, folder: Path) -> AptEnv:
    """Fill `folder` with an APT configuration of the site.

    Raises UserError when a keyring is missing or an archive has no address.
    """
    for name in ("etc/apt.conf.d", "etc/preferences.d", "etc/keys", "state/lists/partial", "cache"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    bases = base_addresses(runner, site)
    sources = [
        _source(archive, base, _keyring(archive, sites_folder, folder / "etc/keys", number))
        for number, (archive, base) in enumerate(zip(site.archives, bases, strict=True))
    ]
    (folder / "etc/sources.list").write_text("\n".join(sources) + "\n")
    (folder / "etc/preferences").write_text(_preferences(site))
    (folder / "apt.conf").write_text(_config(site, folder))
    return AptEnv(folder, bases, runner)


def _keyring(archive: Archive, sites_folder: Path, keys: Path, number: int) -> Path:
    places = [sites_folder / archive.keyring, _SYSTEM_KEYRINGS / archive.keyring]
    for place in places:
        if place.is_file():
            copy = keys / f"{number}{place.suffix}"
            shutil.copyfile(place, copy)
            return copy
    raise UserError(
        f"archives: {archive.uri}: keyring {archive.keyring} is neither beside the site file "
        f"nor in {_SYSTEM_KEYRINGS}",
        hint="install debian-archive-keyring, or put the archive's public key beside the site",
    )


def _source(archive: Archive, base: str, keyring: Path) -> str:
    # Without "!" a key stands for its subkeys, too: Docker, for one, signs with a subkey.
    signed = ",".join([str(keyring), *archive.fingerprints])
    options = [f"signed-by={signed}", "arch=amd64"]
    if not archive.check_valid_until:
        options.append("check-valid-until=no")
    start, components = f"deb [{' '.join(options)}] {base}", archive.components
    return "\n".join(" ".join([start, suite, *components]) for suite in archive.suites)


def _preferences(site: Site) -> str:
    return "\n".join(
        f"Package: {pin.packages}\nPin: {_what(pin)}\nPin-Priority: {pin.priority}\n"
        for pin in site.pins
    )


def _what(pin: Pin) -> str:
    return f"version {pin.version}" if pin.version else f"release {pin.release}"


def _config(site: Site, folder: Path) -> str:
    lines = [
        f'Dir "{folder}";',
        'Dir::Etc "etc"; Dir::State "state"; Dir::Cache "cache";',
        f'Dir::State::status "{folder}/status";',
        'Dir::Etc::trustedparts "none";',
        'APT::Architecture "amd64"; APT::Architectures { "amd64"; };',
        # APT counts itself as essential unless told of another package; a node has no APT.
        'pkgCacheGen::ForceEssential "dpkg";',
        'APT::Install-Recommends "false"; APT::Sandbox::User "root";',
        'Acquire::Languages "none"; Acquire::Retries "3"; Acquire::http::Timeout "20";',
        'Acquire::GzipIndexes "false";',  # the lists are read here, too
    ]
    for scheme, proxy in (("http", site.proxy.http), ("https", site.proxy.https)):
        if proxy:
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return "\n".join(lines) + "\n"


def _explained(error: CommandError) -> UserError:
    complaints = [line for line in error.output.splitlines() if _COMPLAINT.match(line)]
    text = "\n".join(dict.fromkeys(complaints)) or str(error)
    for pattern, hint in _HINTS:
        if re.search(pattern, error.output):
            return UserError(text, hint=hint)
    return UserError(text)

"""Where a site's archives really are: `host:SUITE` means the build host's own mirror."""

from __future__ import annotations

import re

from builder.core.errors import UserError
from builder.core.process import Runner
from builder.model.site import Site

_PREFIX = "host:"
_FOLDER = re.compile(r"^(file|copy):/+")


def base_addresses(runner: Runner, site: Site) -> tuple[str, ...]:
    """Return the base address of each archive of the site, in order, without a last slash.

    Raises UserError when the build host's APT has no source for a `host:SUITE`.
    """
    known = _host_mirrors(runner) if any(a.uri.startswith(_PREFIX) for a in site.archives) else {}
    return tuple(_address(archive.uri, known) for archive in site.archives)


def _address(uri: str, known: dict[str, str]) -> str:
    if not uri.startswith(_PREFIX):
        # As APT itself writes it; by file: it would fetch packages as links into the folder.
        return _FOLDER.sub("copy:/", uri).rstrip("/")
    suite = uri.removeprefix(_PREFIX)
    if suite not in known:
        raise UserError(
            f"archives: {uri}: this host's APT has no source for {suite}",
            hint="write the mirror's address as the archive's uri in the site file",
        )
    return known[suite]


def _host_mirrors(runner: Runner) -> dict[str, str]:
    """Map each suite of the host's APT sources to its address (apt-get(8), indextargets)."""
    listing = runner.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]
    )
    mirrors: dict[str, str] = {}
    for line in listing.stdout.splitlines():
        suite, _, address = line.partition(" ")
        mirrors.setdefault(suite, address.rstrip("/"))
    return mirrors

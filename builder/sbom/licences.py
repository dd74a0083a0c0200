"""From the names of licences that Debian and Python use to SPDX expressions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing

_GNU = re.compile(r"(A?GPL|LGPL|GFDL)-?v?(\d)(?:\.(\d))?(?:\.0)?(\+?)", re.IGNORECASE)
_WITH = re.compile(r"^(\S+) with (.+?)(?: exception)?$", re.IGNORECASE)
_EXCEPTIONS = {
    "autoconf": "Autoconf-exception-2.0",
    "bison": "Bison-exception-2.2",
    "libtool": "Libtool-exception",
    "linux-syscall-note": "Linux-syscall-note",
    "texinfo": "Texinfo-exception",
}
_KNOWN = {  # lower case: the same licence by another name
    "apache": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "bsd-4-clause-uc": "BSD-4-Clause-UC",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "mit license": "MIT",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "3-clause bsd license": "BSD-3-Clause",
    "gfdl-niv-1.3": "GFDL-1.3-no-invariants-only",
    "gfdl-niv-1.3+": "GFDL-1.3-no-invariants-or-later",
    "lgplv3": "LGPL-3.0-only",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "openldap-2.8": "OLDAP-2.8",
    "python software foundation license": "PSF-2.0",
    "psf-2": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zlib/libpng": "Zlib",
}
Unknown = Callable[[str], str]


def debian_expression(synopsis: str, unknown: Unknown) -> str:
    """Return a short name of a Debian copyright file as an SPDX expression.

    The format (copyright-format/1.0, License specification): `and`, `or`, and a comma before an
    `and` that binds less than `or`. `unknown` gives a reference for what SPDX does not list.
    """
    groups = re.split(r",\s+and\s+", synopsis)
    return _joined("AND", (_or(group, unknown) for group in groups))


def _or(text: str, unknown: Unknown) -> str:
    return _joined("OR", (_and(part, unknown) for part in re.split(r"\s+or\s+", text)))


def _and(text: str, unknown: Unknown) -> str:
    return _joined("AND", (_one(part, unknown) for part in re.split(r"\s+and\s+", text)))


def _one(name: str, unknown: Unknown) -> str:
    name = name.strip(" ,")
    if match := _WITH.match(name):
        licence, exception = spdx_id(match[1]), _EXCEPTIONS.get(match[2].lower())
        return f"{licence} WITH {exception}" if licence and exception else unknown(name)
    return spdx_id(name) or unknown(name)


def _joined(operator: str, parts: Iterable[str]) -> str:
    """Join expressions, each once, in a stable order."""
    several = sorted(set(parts))
    if len(several) == 1:
        return several[0]
    bracketed = (f"({part})" if " AND " in part or " OR " in part else part for part in several)
    return f" {operator} ".join(bracketed)


def all_of(expressions: Iterable[str]) -> str | None:
    """Return an expression that asks for all the given ones; None where there are none."""
    return _joined("AND", found) if (found := list(expressions)) else None


def spdx_id(name: str) -> str | None:
    """Return the identifier of SPDX's list for a licence's name; None where it has none."""
    if known := _KNOWN.get(name.lower()):
        return known
    if match := _GNU.fullmatch(name):
        kind, major, minor, later = match.groups()
        found = f"{kind.upper()}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
        return _listed().get(found.lower())
    return _listed().get(name.lower())


def checked_expression(text: str) -> str | None:
    """Return an SPDX expression in its usual spelling; None when it is none."""
    try:
        parsed = _licensing().parse(text, validate=True)
    except ExpressionError:
        return None
    return str(parsed) if parsed is not None else None


def licence_ref(name: str, text: str) -> str:
    """Return a reference for a licence outside the list: equal texts have equal references."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[:40] or "unnamed"
    return f"LicenseRef-{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@cache
def _licensing() -> Any:  # noqa: ANN401 - the library has no types
    return get_spdx_licensing()


@cache
def _listed() -> dict[str, str]:
    """Return the identifiers of SPDX's list by their lower-case form."""
    known = _licensing().known_symbols
    return {key.lower(): key for key in known if not key.startswith("LicenseRef-")}

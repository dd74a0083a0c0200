"""The build host's pip, as the site sets it up; the one place that starts it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.core.sandbox import tied
from builder.model.site import Site

PYTHON = (3, 11)  # Debian 12's, for which wheels are chosen
_PASSED = ("HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "no_proxy", "http_proxy", "https_proxy")
_ERROR = re.compile(r"(?m)^ *(?:ERROR: )(.+)$")
_SOURCES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")
_CPU_INDEX = (
    "add PyTorch's index of CPU builds to the site: "
    "`wheels: {extra_indexes: [https://download.pytorch.org/whl/cpu]}`"
)
# What pip says, and what the user can do about it; the first match is told.
_HINTS = (
    (r"[Nn]o matching distribution found for torch\S*\+cpu", _CPU_INDEX),
    (r"DO NOT MATCH THE HASHES", "the index serves another file under this name: do not use it"),
    (
        r"[Nn]o matching distribution found",
        "check the name and the version, and the site's wheels: only ready wheels for "
        "Python 3.11 on x86_64 are taken",
    ),
    (r"ResolutionImpossible|conflicting dependencies", "loosen one of the recipe's requirements"),
    (r"No space left", "imgbuild cache prune, or a larger disk"),
)
_OTHERWISE = "check the network, the site's wheels and its proxy"


def run_pip(runner: Runner, site: Site, command: str, *words: str | Path) -> None:
    """Run pip COMMAND for ready wheels of the site's indexes; what pip warns of is not shown.

    Raises UserError, with pip's own errors, when it fails.
    """
    argv: list[str | Path] = [sys.executable, "-m", "pip", command, "--quiet", "--no-input"]
    argv += ["--only-binary=:all:", "--disable-pip-version-check", *_indexes(site), *words]
    try:
        runner.run(tied(argv), env=_environment(site), called="pip")
    except CommandError as error:
        raise _explained(error) from None


def check_python() -> None:
    """Raise UserError when this Python would choose other wheels than the container's."""
    if sys.version_info[:2] != PYTHON:
        wanted, actual = (".".join(str(n) for n in v[:2]) for v in (PYTHON, sys.version_info))
        raise UserError(
            f"wheels for the container's Python {wanted} cannot be chosen by Python {actual}",
            hint=f"run imgbuild with Python {wanted}, Debian 12's own",
        )


def _indexes(site: Site) -> list[str]:
    index = ["--index-url", site.wheels.index] if site.wheels.index else []
    more = [word for extra in site.wheels.extra_indexes for word in ("--extra-index-url", extra)]
    return [*index, *more]


def _environment(site: Site) -> dict[str, str]:
    """Return what pip is told of this host: its own settings, unless the site has an index."""
    passed = {k: v for k, v in os.environ.items() if k in _PASSED or k.startswith("PIP_")}
    if site.wheels.index:
        passed = {k: v for k, v in passed.items() if k not in _SOURCES}
        passed["PIP_CONFIG_FILE"] = os.devnull
    proxies = {"http_proxy": site.proxy.http, "https_proxy": site.proxy.https}
    return {**passed, **{name: value for name, value in proxies.items() if value}}


def _explained(error: CommandError) -> UserError:
    said = [line for line in _ERROR.findall(error.output) if "from versions" not in line]
    text = "\n".join(["pip cannot have the wheels:", *(f"    {line}" for line in said)])
    for pattern, hint in _HINTS:
        if re.search(pattern, error.output):
            return UserError(text, hint=hint)
    if not said:
        return UserError(f"pip: {error.status}\n    {_last_line(error.output)}", hint=_OTHERWISE)
    return UserError(text, hint=_OTHERWISE)


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and "WARNING" not in line]
    return lines[-1].strip() if lines else "it said nothing"

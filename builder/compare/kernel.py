"""What is different between the options of two kernels, as their packages have them."""

from __future__ import annotations

import re
from pathlib import Path

from debian.debfile import DebFile

from builder.compare.contents import changes
from builder.core.bootstrap import deb_file
from builder.core.hashing import sha256_file
from builder.model.artifacts import Manifest
from builder.model.difference import Change

_OPTION = re.compile(r"^(CONFIG_\w+)=(.*)$")
_NOT_SET = re.compile(r"^# (CONFIG_\w+) is not set$")


def compare_kernels(
    old: Manifest, new: Manifest, cache: Path
) -> tuple[tuple[Change, ...] | None, tuple[str, ...]]:
    """Return the options that differ, or None and why they cannot be compared."""
    found, lacking = [], []
    for manifest in (old, new):
        options = kernel_options(manifest, cache)
        if options is None:
            name = f"options of kernel {manifest.kernel_release}"
            lacking.append(f"{name}: its package is not in the cache")
        else:
            found.append(options)
    if lacking:
        return None, tuple(dict.fromkeys(lacking))
    return changes(found[0], found[1], str), ()


def kernel_options(manifest: Manifest, cache: Path) -> dict[str, str] | None:
    """Return the options of an image's kernel; None when its package is not in the cache."""
    name = f"linux-image-{manifest.kernel_release}"
    package = next((one for one in manifest.packages if one.name == name), None)
    if package is None:
        return None
    path = deb_file(cache, package.sha256)
    if not path.is_file() or sha256_file(path) != package.sha256:
        return None
    with DebFile(str(path)) as deb:
        config = f"boot/config-{manifest.kernel_release}"
        if not deb.data.has_file(config):
            return None
        content = deb.data.get_content(config)
    return parse_options(content.decode() if isinstance(content, bytes) else str(content))


def parse_options(text: str) -> dict[str, str]:
    """Return the options of a kernel's .config; one that is not set is `n`."""
    found = {}
    for line in text.splitlines():
        if match := _OPTION.match(line):
            found[match[1]] = match[2]
        elif match := _NOT_SET.match(line):
            found[match[1]] = "n"
    return found

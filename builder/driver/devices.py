"""Which GPUs a driver knows, as NVIDIA's own list in the driver's packages says.

Debian ships the list as README.txt (appendix A) or as supported-gpus.json, by package.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path

from builder.core.bootstrap import checked_deb
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.sandbox import Sandbox
from builder.driver.locked import locked_driver, upstream
from builder.model.lock import Lock, LockedPackage
from builder.model.spec import Spec

_LISTS = ("README.txt.gz", "README.txt", "supported-gpus.json.gz", "supported-gpus.json")
_RESULT = "devices.json"
# A line of the appendix: product, device ID, subsystem where it matters, video features.
_LINE = re.compile(r"^ \S.*?  +(?P<device>[0-9A-F]{4})(?: [0-9A-F]{4} [0-9A-F]{4})?(?:  +\S.*)?$")
_CURRENT, _LEGACY = "A1. CURRENT NVIDIA GPUS", "Below are the legacy GPUs"
# All but the documentation is left out by name: tar ends with an error for what is not there.
_UNPACK = """
set -e -o pipefail
dpkg-deb --fsys-tarfile "$2" \\
    | tar -x -C "$1" --exclude=./usr/src --exclude=./usr/lib --exclude=./lib
"""


def check_devices(context: Context, tools: Sandbox, spec: Spec, lock: Lock) -> None:
    """Raise UserError when the locked driver does not know a GPU that the profile names.

    Where no package of the driver has a list, that is told, and nothing is checked.
    """
    gpu = spec.profile.gpu
    if gpu is None or not gpu.devices:
        return
    package = locked_driver(spec, lock)
    known = _known(context, tools, lock, package)
    if not known:
        text = f"{package.name} {package.version} has no list of GPUs: gpu.devices is not checked"
        context.emit(Note("warning", text))
        return
    unknown = [device for device in gpu.devices if device.partition(":")[2] not in known]
    if unknown:
        origin = spec.origins.get("profile.gpu.devices", "profile")
        raise UserError(
            f"driver {upstream(package.version)} ({package.name}, site {spec.site_name}) does not "
            f"know {', '.join(unknown)}, which the profile names ({origin}: gpu.devices)",
            hint="these boards need another branch of the driver: choose a site that has one, "
            "and set gpu.driver.branch",
        )


def parse_readme(text: str) -> set[str]:
    """Return the device IDs of appendix A, current GPUs only, as four lower-case digits."""
    current = text.rpartition(_CURRENT)[2].partition(_LEGACY)[0]
    found = (_LINE.match(line) for line in current.splitlines())
    return {match["device"].lower() for match in found if match}


def parse_json(text: str) -> set[str]:
    """Return the device IDs of supported-gpus.json that no legacy branch claims."""
    chips = json.loads(text)["chips"]
    return {chip["devid"][2:].lower() for chip in chips if not chip.get("legacybranch")}


def _known(context: Context, tools: Sandbox, lock: Lock, main: LockedPackage) -> set[str]:
    """Return the device IDs that the lists in the driver's own packages name."""
    same = upstream(main.version)
    trees = {"driver", "image"}
    packages = [p for p in lock.packages if trees & {*p.trees} and upstream(p.version) == same]
    stage = Stage("driver-devices", {"packages": [p.sha256 for p in packages]}, Path(__file__))

    def make(folder: Path) -> None:
        with context.cache.workspace("driver-lists") as work:
            for package in packages:
                deb = checked_deb(context.cache.root, package)
                argv = ["bash", "-c", _UNPACK, "unpack", str(work), str(deb)]
                tools.run(argv, write=[work], read=[deb.parent])
            found = _parsed(path for path in work.rglob("*") if path.name in _LISTS)
        (folder / _RESULT).write_text(json.dumps(sorted(found)))

    return set(json.loads((context.cache.get(stage, make) / _RESULT).read_text()))


def _parsed(paths: Iterable[Path]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode(errors="replace")
        found |= parse_json(text) if "json" in path.name else parse_readme(text)
    return found

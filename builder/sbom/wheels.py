"""Python wheels of an image: what their own metadata says (core metadata 2.4)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packageurl import PackageURL

from builder.core.wheels import wheel_path
from builder.model.bill import Component
from builder.model.lock import LockedWheel
from builder.sbom.licences import checked_expression, spdx_id

_CLASSIFIER = "License :: OSI Approved :: "
_LONGEST = 60  # characters of a licence's name; what is longer is its text


def wheel_components(
    wheels: Iterable[LockedWheel], cache: Path, container: str | None
) -> Iterator[Component]:
    """Yield a component for each wheel; `container` is the key of what contains them."""
    for wheel in wheels:
        about = _metadata(wheel_path(cache, wheel))
        yield Component(
            key=wheel_key(wheel),
            kind="wheel",
            name=wheel.name,
            version=wheel.version,
            sha256=wheel.sha256,
            purl=PackageURL("pypi", None, wheel.name, wheel.version).to_string(),
            licence=wheel_licence(about),
            homepage=about.get("Home-page"),
            summary=about.get("Summary"),
            part_of=(container,) if container else (),
            notes={"file": wheel.file_name},
        )


def wheel_key(wheel: LockedWheel) -> str:
    """Return the key of a wheel."""
    return f"wheel-{wheel.name}-{wheel.version}".replace("+", "-").replace("_", "-")


def _metadata(path: Path) -> Message:
    """Return a wheel's METADATA; an empty one when the wheel is not in the cache."""
    if not path.is_file():
        return Message()
    with zipfile.ZipFile(path) as archive:
        names = (name for name in archive.namelist() if name.count("/") == 1)
        name = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
        text = archive.read(name).decode(errors="replace") if name else ""
    return HeaderParser().parsestr(text)


def wheel_licence(about: Message) -> str | None:
    """Return the licence that a wheel's metadata states, as an SPDX expression.

    The expression counts first, then the old free field where it is a name, then classifiers.
    None: none of them is one that SPDX lists.
    """
    if (stated := about.get("License-Expression")) and (found := checked_expression(stated)):
        return found
    old = (about.get("License") or "").strip()
    if old and len(old) <= _LONGEST and (found := spdx_id(old) or checked_expression(old)):
        return found
    listed = [
        one.removeprefix(_CLASSIFIER)
        for one in about.get_all("Classifier", [])
        if one.startswith(_CLASSIFIER)
    ]
    return (
        spdx_id(listed[0]) or spdx_id(listed[0].removesuffix(" License"))
        if len(listed) == 1
        else None
    )

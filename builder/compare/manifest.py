"""Finds and reads the manifest of a finished image."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from builder.core.errors import UserError
from builder.model.artifacts import Manifest

_NAME = "manifest.json"
_BUILD = "imgbuild build makes an image with its manifest"


def read_manifest(image: Path) -> Manifest:
    """Return the manifest of an image's folder, or in a manifest file.

    Raises UserError when there is none, or it is damaged.
    """
    path = image / _NAME if image.is_dir() else image
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        hint = f"give the folder of an image, or its {_NAME}; {_BUILD}"
        raise UserError(f"{path}: there is no such manifest", hint=hint) from None
    except OSError as error:
        hint = f"give the folder of an image, or its {_NAME}"
        raise UserError(f"{path}: cannot be read: {error.strerror}", hint=hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        fact = f"{where}: {first['msg']}" if where else first["msg"]
        hint = "it is damaged, or of another version of imgbuild: build the image again"
        raise UserError(f"{path}: not the manifest of an image: {fact}", hint=hint) from None


def newest_image(out: Path) -> Path:
    """Return the folder of the image below `out` (out/PROFILE/VERSION) that was built last.

    Raises UserError when there is none.
    """
    found = out.glob(f"*/[!.]*/{_NAME}")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise UserError(f"{out}: no image yet", hint="imgbuild build --profile cpu")
    return newest.parent

"""The cloud-init files of a seed (NoCloud) from one `#cloud-config` text."""

from __future__ import annotations

import hashlib
from typing import Any

import yaml

from builder.core.errors import UserError

_HEADER = "#cloud-config"
_KEYS = "ssh_authorized_keys"


def seed_files(seed_yaml_text: str, authorized_key: str | None = None) -> dict[str, str]:
    """Return `user-data` and `meta-data` for a seed, with one more SSH key let in.

    The instance id follows from the user-data, so a changed seed is a new instance and
    the same seed is not. Raises UserError when the text is no `#cloud-config` mapping.
    """
    seed = _parsed(seed_yaml_text)
    user_data = seed_yaml_text
    if authorized_key is not None:
        user_data = _dump(_with_key(seed, authorized_key.strip()))
    digest = hashlib.sha256(user_data.encode()).hexdigest()
    return {"user-data": user_data, "meta-data": f"instance-id: imgbuild-{digest[:16]}\n"}


def raw_files(user_data: bytes) -> dict[str, str | bytes]:
    """Return `user-data` exactly as given, however bad, and a `meta-data` for it."""
    digest = hashlib.sha256(user_data).hexdigest()
    return {"user-data": user_data, "meta-data": f"instance-id: imgbuild-{digest[:16]}\n"}


def _parsed(text: str) -> dict[str, Any]:
    if text.partition("\n")[0].rstrip() != _HEADER:
        raise UserError(f"seed: the first line is not {_HEADER!r}", hint=f"put {_HEADER} on line 1")
    try:
        seed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"seed: not valid YAML: {error}") from error
    if seed is None:
        return {}
    if not isinstance(seed, dict):
        raise UserError("seed: not a mapping", hint="write keys, such as `hostname: gpu-07`")
    return seed


def _with_key(seed: dict[str, Any], key: str) -> dict[str, Any]:
    keys = seed.get(_KEYS) or []
    if not isinstance(keys, list):
        raise UserError(f"seed: {_KEYS}: not a list", hint="one key per `- ` line")
    return {**seed, _KEYS: [*keys, *([] if key in keys else [key])]}


def _dump(seed: dict[str, Any]) -> str:
    # A wide line keeps long keys in one piece, easier to read in a saved seed.
    return f"{_HEADER}\n{yaml.safe_dump(seed, sort_keys=False, allow_unicode=True, width=4096)}"

"""Brings what a channel leads to from a web server into an empty repository, to be checked there.

Nothing large is fetched before the signature is good, and then no byte more than was signed.
"""

from __future__ import annotations

from pathlib import Path

import requests

from builder.core.errors import UserError
from builder.core.hashing import sha256_file
from builder.release.repository import (
    MANIFEST,
    RELEASE,
    SIGNATURE,
    SUMS,
    read_channel,
    read_manifest,
    read_release,
)
from builder.release.verify import Check, begin, check_sums

_TIMEOUT_S = 30
_AS_IT_IS = {"Accept-Encoding": "identity"}
_SMALL = 1 << 20
_FACTS = 16 << 20
_CHUNK = 1 << 20


def fetch_channel(check: Check, address: str, image_id: str, channel: str) -> None:
    """Fill the check's repository with a channel's file and its version, as far as they are good.

    What is missing or not good is left for the check to tell. Raises UserError when the server
    does not answer.
    """
    place = check.repository
    file = place.channel(image_id, channel)
    _get(address, place.root, file, _SMALL)
    try:
        said = read_channel(file)
    except UserError:
        return
    if said is None:
        return
    folder = place.version(said.image_id, said.version)
    for name in (SUMS, SIGNATURE):
        _get(address, place.root, folder / name, _SMALL)
    signed = check_sums(begin(check.context, place, check.keyring, check.work), folder)
    if signed:
        _fill(check, address, folder, signed[0])


def _fill(check: Check, address: str, folder: Path, listed: dict[str, str]) -> None:
    """Fetch what the signed sums, and then the files that they name, call for."""
    place = check.repository
    for name in (MANIFEST, RELEASE):
        _get(address, place.root, folder / name, _FACTS)
        path = folder / name
        if not path.is_file() or sha256_file(path) != listed.get(name):
            return
    try:
        manifest, release = read_manifest(folder), read_release(folder)
    except UserError:
        return
    for name, file in release.files().items():
        _get(address, place.root, folder / name, file.bytes)
    for layer in manifest.payload.files:
        _get(address, place.root, place.layers / layer.name, layer.bytes)


def _get(address: str, root: Path, target: Path, limit: int) -> None:
    """Fetch a file, at most `limit` bytes; one that the server does not have is left out."""
    url = f"{address.rstrip('/')}/{target.relative_to(root)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT_S, headers=_AS_IT_IS) as answer:
            if answer.status_code in (requests.codes.not_found, requests.codes.gone):
                return
            answer.raise_for_status()
            _write(answer, target, limit)
    except requests.RequestException as error:
        raise UserError(
            f"{url}: {error}", hint="check the address, the network and http_proxy"
        ) from None


def _write(answer: requests.Response, target: Path, limit: int) -> None:
    with target.open("wb") as out:
        for chunk in answer.iter_content(_CHUNK):
            out.write(chunk[: limit + 1])
            limit -= len(chunk)
            if limit < 0:  # one byte more is kept, so that the digest cannot be right
                return

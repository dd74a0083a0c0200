"""What the release server offers: channel, sums, release and manifest, each believed by signature.

channels/IMAGE_ID/CHANNEL.json.asc   signed → names version and digest of its SHA256SUMS
IMAGE_ID/VERSION/SHA256SUMS(.gpg)    signed → names digests of all other files
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.download import fetch_small
from imgnode.payload import LayerFile, parse_payload
from imgnode.release.signature import (
    KEYRING,
    BadSignature,
    gpgv_command,
    signers,
    split_signed,
)
from imgnode.release.sums import parse_sums
from imgnode.update import state as remembered
from imgnode.update.channel import Channel, Wishes, judge, parse_channel
from imgnode.update.facts import Facts
from imgnode.update.recipe import Recipe, parse_recipe
from imgnode.update.refused import DAMAGED, FETCH, OTHER_IMAGE, SIGNATURE, Refused

_SMALL = 1 << 20
_LARGE = 16 << 20  # a manifest names every package
_GPGV_S = 30
_TEXTS = ("SHA256SUMS", "SHA256SUMS.gpg", "release.json", "manifest.json")


@dataclass(frozen=True)
class Offer:
    """A version that may be installed: how to come by its parts, and the layers it needs."""

    recipe: Recipe
    layers: tuple[LayerFile, ...]
    address: str


def fetch_channel(
    facts: Facts, name: str, wishes: Wishes, work: Path, root: Path = Path("/")
) -> Channel:
    """Return what a channel says now, after everything about it was judged.

    Remembers its serial, so that no older file is believed later. Raises Refused, or OSError.
    """
    url = f"{facts.releases}/channels/{facts.image_id}/{name}.json.asc"
    signed = work / "channel.json.asc"
    _get(url, signed, _SMALL)
    try:
        text, signature = split_signed(signed.read_text())
        (work / "channel.json").write_text(text)
        (work / "channel.sig").write_text(signature)
        _check(work / "channel.json", work / "channel.sig", root)
    except (BadSignature, UnicodeDecodeError) as error:
        raise Refused(SIGNATURE, f"{url}: {error}", _KEYS) from None
    try:
        channel = parse_channel(text)
    except ValueError as error:
        raise Refused(
            DAMAGED, f"{url}: {error}", "imgbuild verify, on the release server"
        ) from None
    state = remembered.load(root)
    judge(channel, facts, name, state, datetime.now(UTC), wishes)
    if channel.serial != state.serials.get(name):
        remembered.save(state.seen(name, channel.serial), root)
    return channel


def fetch_offer(facts: Facts, channel: Channel, work: Path, root: Path = Path("/")) -> Offer:
    """Return what the channel's version is made of. Raises Refused, or OSError."""
    address = f"{facts.releases}/{facts.image_id}/{channel.version}"
    for name in _TEXTS:
        _get(f"{address}/{name}", work / name, _LARGE)
    sums, signature = (work / name for name in _TEXTS[:2])
    if _sha256(sums) != channel.sums_sha256:
        fact = f"{address}/{sums.name}: is another than the channel names"
        raise Refused(DAMAGED, fact, "a mirror may be behind: try again later")
    try:
        _check(sums, signature, root)
        listed = parse_sums(sums.read_text())
    except BadSignature as error:
        raise Refused(SIGNATURE, f"{address}/{sums.name}: {error}", _KEYS) from None
    except ValueError as error:
        raise Refused(DAMAGED, f"{address}/{sums.name}: {error}") from None
    for name in _TEXTS[2:]:
        if listed.get(name) != _sha256(work / name):
            raise Refused(DAMAGED, f"{address}/{name}: is not the file that was signed")
    return _understood(facts, channel, work, address)


_KEYS = "was it released with a key of this image's site? if not, trust nothing of that server"


def _understood(facts: Facts, channel: Channel, work: Path, address: str) -> Offer:
    try:
        recipe = parse_recipe(json.loads((work / "release.json").read_text()))
        manifest: dict[str, Any] = json.loads((work / "manifest.json").read_text())
        layers = parse_payload(manifest["payload"]).files
        named = (manifest["image_id"], manifest["version"], manifest["root_hash"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fact = f"{address}: cannot be understood: {type(error).__name__}: {error}"
        raise Refused(DAMAGED, fact, "it may need a newer version in between") from None
    wanted = (facts.image_id, channel.version)
    if named[:2] != wanted or (recipe.image_id, recipe.version) != wanted:
        raise Refused(OTHER_IMAGE, f"{address}: its files are those of another version")
    if named[2] != recipe.root_hash:
        raise Refused(DAMAGED, f"{address}: release and manifest name two root hashes")
    return Offer(recipe, layers, address)


def _check(data: Path, signature: Path, root: Path) -> None:
    """Raise BadSignature unless a key of this image signed the data."""
    argv = gpgv_command((root / KEYRING).absolute(), signature.absolute(), data.absolute())
    signers(process.run(argv, timeout_s=_GPGV_S).stdout)


def _get(url: str, target: Path, limit: int) -> None:
    said = fetch_small(url, target, limit)
    if said:
        raise Refused(FETCH, f"{url}: {said}", "is the release server up, and is this published?")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""A treemap in two levels: groups, and what is in them (squarified: Bruls, Huizing, van Wijk)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import squarify

_WIDTH, _HEIGHT = 160.0, 90.0  # only their ratio counts: places are told in percent
_LETTERS, _LINE, _EDGE = 1.4, 2.7, 1.3  # in 1 % of the width; percent that a line, an edge takes
_LEAST_LETTERS = 7  # of a line: "10.6 MB"
_LEAST = 0.004  # share of the whole below which things of a group are put together


@dataclass(frozen=True)
class Block:
    """Something with a size, and what it is part of."""

    group: str
    name: str
    bytes: int


@dataclass(frozen=True)
class Tile:
    """A place in the picture, in percent of its width and height."""

    name: str
    group: str
    hue: int
    bytes: int
    left: float
    top: float
    width: float
    height: float

    @property
    def is_roomy(self) -> bool:
        """Tell whether name and size have room in it, on a desktop: there 1 % is some 10 pixels."""
        letters = int((self.width - _EDGE) * _LETTERS)
        lines = 1 + (-(-len(self.name) // letters) if letters > 0 else len(self.name))
        return letters >= _LEAST_LETTERS and self.height > lines * _LINE + _EDGE


@dataclass(frozen=True)
class _Place:
    left: float
    top: float
    width: float
    height: float


def treemap(blocks: Sequence[Block]) -> list[Tile]:
    """Return a tile for each block; those too small to be seen are one tile in each group.

    Groups are numbered by size: `hue` says which colour of the page a tile has.
    """
    whole = sum(one.bytes for one in blocks)
    groups: dict[str, list[Block]] = {}
    for one in blocks:
        groups.setdefault(one.group, []).append(one)
    parts = {name: _merged(inner, whole * _LEAST) for name, inner in groups.items()}
    sums = [(name, sum(one.bytes for one in inner)) for name, inner in parts.items()]
    ordered = sorted((pair for pair in sums if pair[1]), key=lambda pair: -pair[1])
    places = _squares([count for _, count in ordered], _Place(0, 0, _WIDTH, _HEIGHT))
    tiles = []
    for hue, ((name, _), place) in enumerate(zip(ordered, places, strict=True)):
        inner = parts[name]
        for one, where in zip(inner, _squares([b.bytes for b in inner], place), strict=True):
            tiles.append(_tile(one, hue, where))
    return tiles


def _merged(blocks: Sequence[Block], least: float) -> list[Block]:
    """Return the blocks by size, the small ones as one at the end."""
    large = sorted((b for b in blocks if b.bytes >= least), key=lambda b: (-b.bytes, b.name))
    small = [b for b in blocks if 0 < b.bytes < least]
    if len(small) == 1:
        return [*large, *small]
    if small:
        rest = sum(b.bytes for b in small)
        large.append(Block(small[0].group, f"{len(small)} smaller ones", rest))
    return sorted(large, key=lambda b: -b.bytes)


def _squares(sizes: Sequence[int], place: _Place) -> list[_Place]:
    """Lay sizes, the largest first, into a place."""
    if not sizes:
        return []
    areas = squarify.normalize_sizes(list(sizes), place.width, place.height)
    found = squarify.squarify(areas, place.left, place.top, place.width, place.height)
    return [_Place(one["x"], one["y"], one["dx"], one["dy"]) for one in found]


def _tile(block: Block, hue: int, place: _Place) -> Tile:
    return Tile(
        name=block.name,
        group=block.group,
        hue=hue,
        bytes=block.bytes,
        left=round(100 * place.left / _WIDTH, 3),
        top=round(100 * place.top / _HEIGHT, 3),
        width=round(100 * place.width / _WIDTH, 3),
        height=round(100 * place.height / _HEIGHT, 3),
    )

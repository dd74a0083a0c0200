"""Whose matter it is: every kind of fault, and every pair of findings."""

from __future__ import annotations

import itertools

import pytest

from imgnode import fault
from imgnode.gate.attribution import (
    CHECKS,
    DISK,
    DOCKER,
    GPU,
    LAYERS,
    SERVE,
    UNITS,
    Proof,
    attribute,
    of_fallback,
    of_serving,
)
from imgnode.gate.finding import CLASSES, CONFIG, EXTERNAL, HARDWARE, IMAGE, OK, Finding

KINDS = {value for name, value in vars(fault).items() if name.isupper() and isinstance(value, str)}
# Never a token with this config; one under this version; one under another version.
TABLE = {
    "config": (CONFIG, CONFIG, IMAGE),
    "memory": (CONFIG, CONFIG, IMAGE),
    "container": (CONFIG, EXTERNAL, IMAGE),
    "timeout": (CONFIG, EXTERNAL, IMAGE),
    "secret": (CONFIG, CONFIG, CONFIG),
    "fetch": (EXTERNAL, EXTERNAL, EXTERNAL),
    "disk": (EXTERNAL, EXTERNAL, EXTERNAL),
    "hardware": (HARDWARE, HARDWARE, HARDWARE),
    "docker": (IMAGE, IMAGE, IMAGE),
    "image": (IMAGE, IMAGE, IMAGE),
    None: (CONFIG, EXTERNAL, IMAGE),
    "a kind of tomorrow": (CONFIG, EXTERNAL, IMAGE),
}


def test_the_table_knows_every_kind_of_fault() -> None:
    assert set(TABLE) >= KINDS


@pytest.mark.parametrize("kind", TABLE, ids=str)
def test_why_nothing_is_served(kind: str | None) -> None:
    found = tuple(of_serving(kind, one) for one in (Proof.NEVER, Proof.HERE, Proof.ELSEWHERE))
    assert found == TABLE[kind]


@pytest.mark.parametrize("kind", TABLE, ids=str)
def test_an_image_that_serves_the_last_good_config_is_not_to_blame(kind: str | None) -> None:
    assert of_fallback(kind) == (EXTERNAL if kind in ("fetch", "disk") else CONFIG)


ALONE = [Finding(check, whose, "x") for check in CHECKS for whose in CLASSES]


@pytest.mark.parametrize("one", ALONE, ids=lambda one: f"{one.check}-{one.whose}")
def test_a_finding_alone_decides(one: Finding) -> None:
    assert attribute([one]) == (one.whose, () if one.whose == OK else (one,))


def expected(first: Finding, second: Finding) -> str:
    """Say it in words, as the page does."""
    classes = {first.whose, second.whose}
    if HARDWARE in classes:
        return HARDWARE
    blamed = [one for one in (first, second) if one.whose == IMAGE]
    excuses = {one.check for one in (first, second) if one.whose in (CONFIG, EXTERNAL)}
    for one in blamed:
        consequences_of_the_disk = one.check in {UNITS, LAYERS, DOCKER, SERVE} and DISK in excuses
        consequences_of_a_layer = one.check == SERVE and LAYERS in excuses
        if not consequences_of_the_disk and not consequences_of_a_layer:
            return IMAGE
    if CONFIG in classes:
        return CONFIG
    return EXTERNAL if EXTERNAL in classes else OK


def test_every_pair_of_findings() -> None:
    for first, second in itertools.product(ALONE, repeat=2):
        found, deciding = attribute([first, second])
        assert found == expected(first, second), (first, second)
        assert {one.whose for one in deciding} <= {found}
        assert attribute([second, first])[0] == found


def test_missing_gpus_beat_all_that_follows_from_them() -> None:
    gpu = Finding(GPU, HARDWARE, "expected 8 x A100, found 0")
    rest = [Finding(UNITS, IMAGE, "nvidia-persistenced failed"), Finding(SERVE, IMAGE, "no CUDA")]
    assert attribute([gpu, *rest]) == (HARDWARE, (gpu,))

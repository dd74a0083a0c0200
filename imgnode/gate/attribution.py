"""Whose matter it is when something is wrong. Pure; why it is so: docs/decisions/gate.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from imgnode import fault
from imgnode.gate.finding import CONFIG, EXTERNAL, HARDWARE, IMAGE, OK, Finding

DISK, CLOCK, GPU, UNITS, LAYERS, DOCKER, SERVE = CHECKS = (
    "disk",
    "clock",
    "gpu",
    "units",
    "layers",
    "docker",
    "serve",
)
# What a check blames on the image is a mere consequence where one of these told of another cause.
_EXPLAINED_BY: Mapping[str, frozenset[str]] = {
    UNITS: frozenset({DISK}),
    LAYERS: frozenset({DISK}),
    DOCKER: frozenset({DISK}),
    SERVE: frozenset({DISK, LAYERS}),
}
_DECIDING = (HARDWARE, IMAGE, CONFIG, EXTERNAL)
FINAL = frozenset({HARDWARE, IMAGE})  # nothing that is found later would change it


class Proof(StrEnum):
    """Which version, if any, made a token with the very config that now fails."""

    NEVER = "never"
    HERE = "this version"
    ELSEWHERE = "another version"


_BY_PROOF = {Proof.NEVER: CONFIG, Proof.HERE: EXTERNAL, Proof.ELSEWHERE: IMAGE}
_SETTINGS = {Proof.NEVER: CONFIG, Proof.HERE: CONFIG, Proof.ELSEWHERE: IMAGE}
_SERVING: Mapping[str, Mapping[Proof, str]] = {
    fault.CONFIG: _SETTINGS,
    fault.MEMORY: _SETTINGS,
    fault.CONTAINER: _BY_PROOF,
    fault.TIMEOUT: _BY_PROOF,
    fault.SECRET: dict.fromkeys(Proof, CONFIG),
    fault.FETCH: dict.fromkeys(Proof, EXTERNAL),
    fault.DISK: dict.fromkeys(Proof, EXTERNAL),
    fault.HARDWARE: dict.fromkeys(Proof, HARDWARE),
    fault.DOCKER: dict.fromkeys(Proof, IMAGE),
    fault.IMAGE: dict.fromkeys(Proof, IMAGE),
}


def of_serving(kind: str | None, proof: Proof) -> str:
    """Return whose matter it is that nothing is served, by the kind of the last fault.

    A kind that is not known (the start was cut off) is judged like a server that ended.
    """
    return _SERVING.get(kind or "", _BY_PROOF)[proof]


def of_fallback(kind: str | None) -> str:
    """Return whose matter it is that the last good config serves: it works, so not the image's."""
    return EXTERNAL if kind in fault.OF_THE_MOMENT else CONFIG


def attribute(findings: Iterable[Finding]) -> tuple[str, tuple[Finding, ...]]:
    """Return the class of the verdict and the findings that decide it, in the order given.

    Hardware beats all: whatever else is wrong may come from it. Then the image, unless that is
    explained by another cause; then the config; then what lies outside.
    """
    found = tuple(findings)
    causes = {one.check for one in found if one.whose in (CONFIG, EXTERNAL)}
    for whose in _DECIDING:
        deciding = tuple(
            one
            for one in found
            if one.whose == whose
            and not (whose == IMAGE and causes & _EXPLAINED_BY.get(one.check, frozenset()))
        )
        if deciding:
            return whose, deciding
    return OK, ()

"""Which driver runs which CUDA: the one table of it, for locks and for checks of a build.

A driver runs programs of every minor version of a CUDA major version from one least driver
on, and those of all majors below.
"""

from __future__ import annotations

# NVIDIA, "CUDA Compatibility", table of minor version compatibility; the full versions are
# from the release notes of each CUDA Toolkit (Linux on x86_64).
LEAST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}


def minimal_driver(major: int) -> str:
    """Return the oldest driver, such as "525.60.13", that runs a CUDA major version.

    Raises ValueError for a major version that the table does not know.
    """
    if major not in LEAST_DRIVER:
        raise ValueError(f"CUDA {major}: which driver it needs is not known")
    return LEAST_DRIVER[major]


def cuda_major(driver: str) -> int:
    """Return the newest CUDA major version that a driver runs.

    `driver` is a version such as "535.309.01", or a branch such as "535", of which the newest
    release counts. Raises ValueError for one that is older than the table.
    """
    actual = _numbers(driver)
    fitting = [major for major, least in LEAST_DRIVER.items() if _from(actual, _numbers(least))]
    if not fitting:
        raise ValueError(f"driver {driver} is older than every CUDA that is known")
    return max(fitting)


def _from(actual: tuple[int, ...], least: tuple[int, ...]) -> bool:
    """Tell whether a driver is `least` or newer; what a branch does not say is in its favour."""
    return actual >= least[: len(actual)]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))

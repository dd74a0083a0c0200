"""Modules, kernel, libraries and firmware that do not belong together stop a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.driver.fits import check_fits
from builder.model.driver import Driver
from builder.model.lock import Lock
from tests.unit.driver_parts import (
    DRIVER,
    LIBRARIES,
    RELEASE,
    driver,
    gpu_lock,
    gpu_spec,
    installed,
    locked,
    module,
)

OLD = "535.261.03"


def refusal(base: Path, made: Driver | None = None, lock: Lock | None = None) -> str:
    with pytest.raises(UserError) as caught:
        check_fits(gpu_spec(), lock or gpu_lock(), made or driver(), base)
    assert caught.value.hint is not None
    return str(caught.value)


def test_what_belongs_together_is_taken(tmp_path: Path) -> None:
    check_fits(gpu_spec(), gpu_lock(), driver(), installed(tmp_path))


def test_modules_for_another_kernel(tmp_path: Path) -> None:
    made = driver(module(), module("nvidia-uvm", kernel="6.18.44-fc"))
    told = refusal(installed(tmp_path), made)
    assert "nvidia-current-uvm.ko is built for kernel 6.18.44-fc (its vermagic)" in told
    assert f"the image has {RELEASE} (/usr/lib/modules)" in told


def test_libraries_of_another_version(tmp_path: Path) -> None:
    told = refusal(installed(tmp_path, OLD))
    assert f"modules have version 535.309.01 (nvidia-kernel-dkms {DRIVER})" in told
    assert f"libcuda.so.{OLD} has {OLD} (libcuda1 {DRIVER})" in told
    assert "image/drivers/debian.yaml" in told


def test_firmware_of_another_version(tmp_path: Path) -> None:
    told = refusal(installed(tmp_path, firmware=OLD))
    assert f"gsp_ga10x.bin has {OLD} (firmware-nvidia-gsp)" in told


def test_a_program_of_another_version(tmp_path: Path) -> None:
    told = refusal(installed(tmp_path), lock=gpu_lock(locked("nvidia-smi", f"{OLD}-1", "image")))
    assert f"nvidia-smi has {OLD} (nvidia-smi {OLD}-1)" in told


def test_a_module_of_another_version(tmp_path: Path) -> None:
    made = driver(module(), module("nvidia-uvm", version=OLD))
    told = refusal(installed(tmp_path), made)
    assert f"nvidia-current-uvm.ko has version {OLD}, nvidia itself 535.309.01" in told


def test_no_library_at_all(tmp_path: Path) -> None:
    base = installed(tmp_path)
    for path in (base / LIBRARIES).glob("libnvidia-ml.so.*"):
        path.unlink()
    assert "has no libnvidia-ml.so" in refusal(base)

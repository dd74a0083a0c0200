"""What a lock with a driver is refused for, before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.context import Context
from builder.core.errors import UserError
from builder.driver.build import check_container, check_lock, warn_lacking
from builder.driver.cuda import need_of_image, need_of_lock
from builder.driver.locked import locked_release, upstream
from builder.model.lock import Lock
from builder.model.spec import Spec
from tests.unit.driver_parts import (
    DRIVER,
    KERNEL,
    RECIPE,
    RELEASE,
    driver,
    gpu_lock,
    gpu_spec,
    locked,
    of_wheels,
    with_config,
)
from tests.unit.fakes import Events, context, lock, site, spec


@pytest.fixture
def where(tmp_path: Path) -> Context:
    return context(tmp_path)


def notes(where: Context) -> list[str]:
    assert isinstance(where.emit, Events)
    return where.emit.notes()


def refusal(where: Context, spec_: Spec, lock_: Lock) -> str:
    with pytest.raises(UserError) as caught:
        check_lock(where, spec_, lock_)
    assert caught.value.hint is not None
    return str(caught.value)


def test_a_lock_that_fits_is_taken(where: Context) -> None:
    check_lock(where, gpu_spec(), gpu_lock())
    check_lock(where, spec(), lock())  # without a GPU there is nothing to check
    assert notes(where) == []
    assert locked_release(gpu_lock()) == RELEASE


@pytest.mark.parametrize(
    ("version", "expected"),
    [("535.309.01-0+deb12u1", "535.309.01"), ("1:580.65.06-1", "580.65.06"), ("2.0", "2.0")],
)
def test_the_upstream_part_of_a_version(version: str, expected: str) -> None:
    assert upstream(version) == expected


def test_headers_of_another_version_are_refused_with_both_named(where: Context) -> None:
    other = locked(f"linux-headers-{RELEASE}", "6.1.190-1", "driver")
    told = refusal(where, gpu_spec(), gpu_lock(other))
    assert f"linux-image-{RELEASE} {KERNEL}" in told
    assert f"linux-headers-{RELEASE} 6.1.190-1" in told


def test_headers_of_another_flavour_are_refused(where: Context) -> None:
    cloud = "linux-image-6.1.0-56-cloud-amd64"
    told = refusal(
        where,
        gpu_spec(),
        gpu_lock(locked(cloud, KERNEL, "image"), without=(f"linux-image-{RELEASE}",)),
    )
    assert cloud in told
    assert f"linux-headers-{RELEASE} {KERNEL}" in told
    assert "image/drivers/debian.yaml: headers" in told


def test_a_lock_of_another_branch_is_refused(where: Context) -> None:
    told = refusal(where, gpu_spec({"driver": {"branch": "550"}}), gpu_lock())
    assert f"branch 535 (nvidia-kernel-dkms {DRIVER})" in told
    assert "the profile wants 550 (gpu.driver.branch: default)" in told


def test_a_lock_without_the_dkms_package_is_refused(where: Context) -> None:
    told = refusal(where, gpu_spec(), gpu_lock(without=("nvidia-kernel-dkms",)))
    assert "the lock has no package nvidia-kernel-dkms" in told


def test_two_kernels_are_refused(where: Context) -> None:
    second = locked("linux-image-6.1.0-57-amd64", "6.1.193-1", "image")
    assert "has 2 kernels" in refusal(where, gpu_spec(), gpu_lock(second))


def test_no_fabric_manager_is_a_warning_for_boards_that_need_one(where: Context) -> None:
    warn_lacking(where, gpu_spec({"fabric_manager": False}))
    manager = RECIPE.model_copy(update={"fabric_manager": ("nvidia-fabricmanager-535",)})
    warn_lacking(where, gpu_spec({"fabric_manager": True}, driver=manager))
    assert notes(where) == []
    warn_lacking(where, gpu_spec({"fabric_manager": True}))
    assert "site debian has no fabric manager" in notes(where)[0]


@pytest.mark.parametrize(
    ("wheels", "version"),
    [
        ([("nvidia-cuda-runtime-cu12", "12.8.90"), ("torch", "2.8.0")], "12.8"),
        ([("nvidia-cuda-runtime", "13.0.48")], "13.0"),
        ([("torch", "2.9.0+cu128")], "12.8"),
        ([("torch", "2.9.0+cu128"), ("nvidia-cuda-runtime", "13.0.48")], "13.0"),
    ],
)
def test_the_cuda_of_wheels(wheels: list[tuple[str, str]], version: str) -> None:
    need = need_of_lock(gpu_lock(container=of_wheels(*wheels)))
    assert need is not None
    assert need.version == version


def test_wheels_without_cuda_need_nothing() -> None:
    assert need_of_lock(gpu_lock(container=of_wheels(("torch", "2.9.0+cpu")))) is None
    assert need_of_lock(gpu_lock()) is None


def test_wheels_for_a_newer_major_version_are_refused(where: Context) -> None:
    check_lock(where, gpu_spec(), gpu_lock(container=of_wheels(("torch", "2.9.0+cu128"))))
    wheels = of_wheels(("nvidia-cuda-runtime", "13.0.48"))
    told = refusal(where, gpu_spec(), gpu_lock(container=wheels))
    assert "CUDA 13.0 (wheel nvidia-cuda-runtime 13.0.48), so a driver from 580.65.06 on" in told
    assert "is 535.309.01, for CUDA up to 12.x" in told


NEWER = '{"config": {"Env": ["CUDA_VERSION=13.0.1", "NVIDIA_REQUIRE_CUDA=%s"]}}'
FORWARD = "cuda>=13.0 brand=geforce,driver>=500 brand=tesla,driver>=535,driver<536"


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ('{"config": {"Env": ["CUDA_VERSION=12.4.1", "A=b"]}}', "12.4.1"),
        ('{"config": {"Env": ["NVIDIA_REQUIRE_CUDA=cuda>=12.6 brand=tesla,driver>=470"]}}', "12.6"),
        ('{"config": {"Labels": {"com.nvidia.cuda.version": "12.2"}}}', "12.2"),
        ('{"config": {"Env": null, "Labels": null}}', None),
        ("{}", None),
    ],
)
def test_the_cuda_of_an_image(config: str, version: str | None) -> None:
    need = need_of_image(config)
    assert (need.version if need else None) == version


def test_a_container_that_is_too_new_is_refused(where: Context) -> None:
    with pytest.raises(UserError, match=r"CUDA 13\.0\.1 \(CUDA_VERSION of the image\)"):
        check_container(where, gpu_spec(), driver(), with_config(NEWER % "cuda>=13.0"))
    check_container(where, gpu_spec(), driver(), with_config('{"config": {}}'))
    check_container(where, spec(), None, with_config(NEWER % "cuda>=13.0"))


def test_forward_compatibility_needs_the_nvidia_runtime_and_a_driver_that_is_named(
    where: Context,
) -> None:
    image = with_config(NEWER % FORWARD)
    nvidia = gpu_spec(site=site(gpu={"runtime": "nvidia"}))
    check_container(where, nvidia, driver(), image)
    assert "data-centre GPUs only" in notes(where)[0]
    with pytest.raises(UserError, match="the container needs CUDA"):
        check_container(where, gpu_spec(), driver(), image)
    other = with_config(NEWER % FORWARD.replace("535,driver<536", "550,driver<551"))
    with pytest.raises(UserError, match="the container needs CUDA"):
        check_container(where, nvidia, driver(), other)


def test_a_major_version_that_no_rule_knows_is_a_warning(where: Context) -> None:
    future = of_wheels(("nvidia-cuda-runtime", "14.1.0"))
    check_lock(where, gpu_spec(), gpu_lock(container=future))
    assert "no rule says" in notes(where)[0]

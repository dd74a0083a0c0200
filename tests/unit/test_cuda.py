"""Which driver runs which CUDA, and what of a recipe that chooses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builder.core.paths import Project
from builder.lock import outside
from builder.lock.outside import lock_container, outside_digest, told_choice
from builder.model.container import ContainerRecipe
from builder.model.cuda import cuda_major, minimal_driver
from builder.model.lock import LockedWheel
from builder.model.profile import Gpu, GpuDriver
from builder.model.spec import Spec
from builder.resolve.profiles import load_profile
from builder.resolve.recipes import load_recipes
from tests.unit.fakes import Events, context, spec
from tests.unit.resolve_project import Files, files

__all__ = ["files"]

FILE = "image/containers/vllm/recipe.yaml"
RECIPE = """
description: a server
packages: [python3]
requirements: [numpy]
without: [ninja]
variants:
  - {cuda: 13, requirements: [vllm==3], without: [cutlass-cu13]}
  - {cuda: 12, requirements: [vllm==2, torch===1], without: [cutlass-cu12]}
layers:
  - {name: libraries, wheels: ['*']}
entrypoint: [python3]
"""


def gpu_profile(branch: str) -> str:
    gpu = f"gpu: {{model: any, driver: {{branch: '{branch}'}}}}"
    return f"extends: base\ncontainer: recipe:vllm\n{gpu}\n"


def on_driver(files: Files, branch: str) -> Spec:
    files.profile(gpu_profile(branch))
    files.write(FILE, RECIPE)
    return files.resolve()


@pytest.mark.parametrize(
    ("driver", "major"),
    [
        ("450", 11),
        ("450.80.02", 11),
        ("520", 11),
        ("525", 12),
        ("525.60.11", 11),
        ("535.309.01", 12),
        ("575", 12),
        ("580", 13),
        ("580.65.06", 13),
        ("1000", 13),
    ],
)
def test_the_newest_cuda_that_a_driver_runs(driver: str, major: int) -> None:
    assert cuda_major(driver) == major


def test_what_the_table_does_not_know() -> None:
    assert minimal_driver(13) == "580.65.06"
    with pytest.raises(ValueError, match="driver 390 is older"):
        cuda_major("390")
    with pytest.raises(ValueError, match="CUDA 14"):
        minimal_driver(14)


def test_the_driver_decides_what_is_locked(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(*words: object) -> tuple[LockedWheel, ...]:
        asked.append(words[2])
        names = ("cutlass-cu12", "ninja", "vllm")
        return tuple(
            LockedWheel(name=name, version="1", file_name=f"{name}.whl", sha256="ab" * 32)
            for name in names
        )

    monkeypatch.setattr(outside, "lock_wheels", answer)
    where = context(tmp_path)
    made = lock_container(where, on_driver(files, "535"))
    assert made is not None
    assert asked == [("numpy", "vllm==2", "torch===1")]
    assert [wheel.name for wheel in made.wheels] == ["vllm"]
    assert isinstance(where.emit, Events)
    assert where.emit.notes()[-1] == (
        "vllm 2 (CUDA 12): the newest that driver 535 runs; "
        "vllm 3 (CUDA 13) needs driver 580.65.06 or a newer one"
    )


def test_a_newer_driver_gets_the_newer_one_in_whatever_order(files: Files) -> None:
    there = on_driver(files, "580")
    assert there.recipe is not None
    for variants in (there.recipe.variants, there.recipe.variants[::-1]):
        recipe = there.recipe.model_copy(update={"variants": variants})
        assert told_choice(recipe, "580") == "vllm 3 (CUDA 13): the newest that driver 580 runs"


def test_a_lock_fits_all_drivers_that_run_the_same_cuda(files: Files) -> None:
    digests = [outside_digest(on_driver(files, branch)) for branch in ("535", "570", "580")]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_variant_that_is_not_taken_is_not_in_the_digest() -> None:
    gpu = Gpu(model="any", driver=GpuDriver(branch="535"))
    profile = spec().profile.model_copy(update={"container": "recipe:vllm", "gpu": gpu})
    parts = {
        "description": "a",
        "packages": ["python3"],
        "layers": [{"name": "all", "wheels": ["*"]}],
        "entrypoint": ["python3"],
    }

    def digest(*requirements: str) -> str | None:
        variants = [
            {"cuda": cuda, "requirements": [one]}
            for cuda, one in zip((12, 13), requirements, strict=True)
        ]
        recipe = ContainerRecipe.model_validate({**parts, "variants": variants})
        return outside_digest(spec(profile=profile, recipe=recipe))

    assert digest("vllm==2", "vllm==3") == digest("vllm==2", "vllm==4")
    assert digest("vllm==2", "vllm==3") != digest("vllm==1", "vllm==3")


@pytest.mark.parametrize(
    ("profile", "fact"),
    [
        (gpu_profile("470"), "the recipe needs driver 525.60.13 (CUDA 12) or a newer one"),
        (gpu_profile("390"), "driver 390 is older than every CUDA that is known"),
        ("extends: base\ncontainer: recipe:vllm\n", "the recipe is for GPUs, and the profile"),
    ],
)
def test_a_driver_that_runs_no_variant(files: Files, profile: str, fact: str) -> None:
    files.profile(profile)
    files.write(FILE, RECIPE)
    (problem,) = files.problems()
    assert problem.startswith(f"config/profiles/cpu.yaml: container: {fact}")


def test_two_variants_for_one_cuda(files: Files) -> None:
    files.profile(gpu_profile("535"))
    files.write(FILE, RECIPE.replace("cuda: 13", "cuda: 12"))
    (problem,) = files.problems()
    assert problem == f"{FILE}: variants[1].cuda: there are two variants for 12"


def test_the_recipe_of_this_repository_takes_no_torch_for_processors() -> None:
    """`==` lets a local build such as 2.10.0+cpu in, and pip takes it before PyPI's."""
    project = Project(Path(__file__).parents[2])
    recipe = load_recipes(project, load_profile(project, "multi"))[0].container
    assert recipe is not None
    assert [variant.cuda for variant in recipe.variants] == [12, 13]
    for variant in recipe.variants:
        assert any(re.fullmatch(r"torch===[\d.]+", one) for one in variant.requirements)

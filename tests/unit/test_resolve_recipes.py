"""Recipes that a profile names: found, whole, and wrong in ways that are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.paths import Project
from builder.resolve import resolve
from builder.resolve.profiles import load_profile
from builder.resolve.recipes import load_recipes
from tests.unit.resolve_project import Files, files

__all__ = ["files"]

CPU = "config/profiles/cpu.yaml"
FILE = "image/containers/vllm/recipe.yaml"
MODEL = "image/models/small/recipe.yaml"
RECIPE = """
description: a server
packages: [python3]
requirements: [vllm==1]
layers:
  - {name: libraries, wheels: ['*']}
entrypoint: [python3]
"""
BUNDLE = """
description: a model
model: Org/Name
requirements: [gguf==1]
"""


@pytest.fixture
def served(files: Files) -> Files:
    files.profile("extends: base\ncontainer: recipe:vllm\nmodels: [small]\n")
    files.write(FILE, RECIPE)
    files.write(MODEL, BUNDLE)
    return files


def test_a_recipe_and_a_bundle_are_part_of_the_spec(served: Files) -> None:
    spec = served.resolve()
    assert spec.recipe is not None
    assert spec.recipe.layers[0].name == "libraries"
    assert spec.bundles["small"].model == "Org/Name"
    assert spec.bundles["small"].revision == "main"


def test_without_a_container_there_is_none(served: Files) -> None:
    served.write(FILE, "nonsense: 1")
    spec = resolve(served.project, "cpu", "debian", container=False)
    assert (spec.recipe, spec.bundles) == (None, {})
    assert (spec.profile.container, spec.profile.models) == (None, ())


def test_other_sources_need_no_recipe(files: Files) -> None:
    files.profile("extends: base\ncontainer: docker://registry.example/vllm:1\n")
    assert files.resolve().recipe is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("packages:", "package:", f"{FILE}: package: unknown key (hint: did you mean 'packages'?"),
        ("entrypoint: [python3]", "", f"{FILE}: entrypoint: is required but not set"),
        ("[python3]", "[Python 3]", f'{FILE}: packages[0]: "Python 3" must match'),
        ("name: lib", "nam: lib", f"{FILE}: layers[0].nam: unknown key (hint: did you mean 'name'"),
        (
            "'*']}",
            "'*']}\n  - {name: libraries, wheels: [a]}",
            f"{FILE}: layers[1].name: there are two layers 'libraries'",
        ),
        ("layers:\n  - {name: libraries, wheels: ['*']}", "", f"{FILE}: layers: there is no layer"),
        ("a server", "[", f"{FILE}: line "),
    ],
)
def test_mistakes_in_a_recipe(served: Files, old: str, new: str, expected: str) -> None:
    served.write(FILE, RECIPE.replace(old, new, 1))
    assert any(problem.startswith(expected) for problem in served.problems()), served.problems()


@pytest.mark.parametrize("requirement", ["gguf", "gguf>=1", "gguf==1.*", "'gguf == 1'"])
def test_a_bundle_is_pinned(served: Files, requirement: str) -> None:
    served.write(MODEL, BUNDLE.replace("gguf==1", requirement))
    (problem,) = served.problems()
    assert problem.startswith(f"{MODEL}: requirements[0]: ")


def test_names_that_are_not_there(served: Files) -> None:
    served.profile("extends: base\ncontainer: recipe:vlm\nmodels: [smal]\n")
    container, bundle = served.problems()
    assert container.startswith(f"{CPU}: container: there is no image/containers/vlm/recipe.yaml")
    assert "did you mean 'vllm'?" in container
    assert bundle.startswith(f"{CPU}: models[0]: there is no image/models/smal/recipe.yaml")
    assert "did you mean 'small'?" in bundle


@pytest.mark.parametrize("source", ["recipe:../x", "docker:vllm", "vllm", "7"])
def test_a_source_that_is_none(served: Files, source: str) -> None:
    served.profile(f"extends: base\ncontainer: {source}\n")
    (problem,) = served.problems()
    assert problem.startswith(f"{CPU}: container: ")


def test_a_bundle_needs_a_container(served: Files) -> None:
    served.profile("extends: base\nmodels: [small]\n")
    (problem,) = served.problems()
    assert problem.startswith(f"{CPU}: models: model bundles are made by the container")


def test_the_recipes_of_this_repository_are_good() -> None:
    project = Project(Path(__file__).parents[2])
    for path in sorted(project.profiles.glob("*.yaml")):
        recipes, problems = load_recipes(project, load_profile(project, path.stem))
        assert not problems
        assert path.stem != "cpu" or recipes.container is not None

"""What a lock says of containers and model bundles, and when it no longer fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.lock import outside
from builder.lock.outside import check_layers, lock_bundles, lock_container, outside_digest
from builder.lock.resolver import _requests, request_digest
from builder.lock.store import read_lock, write_lock
from builder.model.container import BundleRecipe, ContainerRecipe
from builder.model.lock import LockedContainer, LockedWheel
from builder.model.spec import Spec
from tests.unit.fakes import Events, FakeRunner, context, lock, package, site, spec

DIGEST = "ab" * 32
RECIPE = {
    "description": "a recipe",
    "packages": ["python3"],
    "requirements": ["vllm==1"],
    "without": ["Triton", "absent"],
    "layers": [{"name": "all", "wheels": ["*"]}],
    "entrypoint": ["python3"],
}
BUNDLE = {"description": "b", "model": "a/b", "requirements": ["gguf==1"]}


def wheel(name: str) -> LockedWheel:
    return LockedWheel(name=name, version="1", file_name=f"{name}.whl", sha256=DIGEST)


def with_container(source: str, **changes: object) -> Spec:
    plain = spec()
    profile = plain.profile.model_copy(update={"container": source})
    return spec(profile=profile, **changes)


def with_recipe(**changes: object) -> Spec:
    recipe = ContainerRecipe.model_validate({**RECIPE, **changes})
    return with_container("recipe:vllm", recipe=recipe)


def test_a_recipe_is_locked_by_its_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuple(wheel(name) for name in ("torch", "triton", "vllm"))
    monkeypatch.setattr(outside, "lock_wheels", lambda *_: found)
    where = context(tmp_path)
    made = lock_container(where, with_recipe())
    assert made is not None
    assert (made.source, made.digest) == ("recipe:vllm", None)
    assert [one.name for one in made.wheels] == ["torch", "vllm"]
    assert isinstance(where.emit, Events)
    assert "without: absent: not needed anyway" in where.emit.notes()


def test_a_recipe_may_have_no_wheels(tmp_path: Path) -> None:
    made = lock_container(context(tmp_path), with_recipe(requirements=[], without=[]))
    assert made == LockedContainer(source="recipe:vllm")


def test_a_wheel_that_no_layer_takes_is_named() -> None:
    layers = [{"name": "one", "wheels": ["to*", "vllm"]}]
    recipe = ContainerRecipe.model_validate({**RECIPE, "layers": layers})
    check_layers(recipe, [wheel("torch"), wheel("vllm")])
    with pytest.raises(UserError, match="no layer of the container's recipe takes numpy"):
        check_layers(recipe, [wheel("torch"), wheel("numpy")])


def test_a_named_digest_needs_no_network(tmp_path: Path) -> None:
    runner = FakeRunner()
    source = f"docker://registry.example/vllm:1@sha256:{DIGEST}"
    made = lock_container(context(tmp_path, runner), with_container(source))
    assert made == LockedContainer(source=source, digest=DIGEST)
    assert runner.calls == []


def test_a_tag_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/auth.json")
    runner = FakeRunner(lambda _: f"sha256:{DIGEST}\n")
    source = "docker://registry.example/vllm:1"
    there = with_container(source, site=site(proxy={"https": "http://p:1"}))
    made = lock_container(context(tmp_path, runner), there)
    assert made == LockedContainer(source=source, digest=DIGEST)
    (call,) = runner.calls
    assert call[:3] == ["skopeo", "--insecure-policy", "inspect"]
    assert call[-1] == source
    assert runner.envs[0]["REGISTRY_AUTH_FILE"] == "/auth.json"
    assert runner.envs[0]["https_proxy"] == "http://p:1"


def test_a_registry_without_a_sha256(tmp_path: Path) -> None:
    runner = FakeRunner(lambda _: "sha512:00")
    with pytest.raises(UserError, match="names no SHA-256"):
        lock_container(context(tmp_path, runner), with_container("docker://r.example/a:1"))


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("bwrap: execvp skopeo: No such file or directory", "apt install skopeo"),
        ("unauthorized: access to the requested resource", "skopeo login"),
        ("manifest unknown", "name, tag and digest"),
        ("dial tcp: i/o timeout", "network"),
    ],
)
def test_what_skopeo_says_becomes_an_error(tmp_path: Path, output: str, hint: str) -> None:
    def answer(_: list[str]) -> str:
        raise CommandError("skopeo", "exit status 1", output)

    where = context(tmp_path, FakeRunner(answer))
    with pytest.raises(UserError, match=r"^container: docker://r.example/a:1: ") as caught:
        lock_container(where, with_container("docker://r.example/a:1"))
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_an_archive_is_locked_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.tar").write_bytes(b"archive")
    made = lock_container(context(tmp_path), with_container("oci-archive:images/a.tar"))
    assert made is not None
    assert made.digest == hashlib.sha256(b"archive").hexdigest()
    with pytest.raises(UserError, match=r"images/b.tar: there is no such file"):
        lock_container(context(tmp_path), with_container("oci-archive:images/b.tar"))


def test_no_container_locks_nothing(tmp_path: Path) -> None:
    assert lock_container(context(tmp_path), spec()) is None
    assert lock_bundles(context(tmp_path), spec()) == {}
    assert outside_digest(spec()) is None


def test_bundles_are_locked_without_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(*words: object, needs: bool) -> tuple[LockedWheel, ...]:
        asked.append((words[2], needs))
        return (wheel("gguf"),)

    monkeypatch.setattr(outside, "lock_wheels", answer)
    there = spec(bundles={"b": BundleRecipe.model_validate(BUNDLE)})
    assert lock_bundles(context(tmp_path), there) == {"b": (wheel("gguf"),)}
    assert asked == [(("gguf==1",), False)]


def test_the_request_follows_what_is_asked_for() -> None:
    base = outside_digest(with_recipe())
    assert base == outside_digest(with_recipe(env={"A": "b"}, entrypoint=["sh"], remove=["x"]))
    bundle = BundleRecipe.model_validate(BUNDLE)
    others = [
        with_recipe(packages=["python3", "bash"]),
        with_recipe(requirements=["vllm==2"]),
        with_recipe(without=[]),
        with_container("oci-archive:a"),
        with_recipe().model_copy(update={"bundles": {"b": bundle}}),
        with_recipe().model_copy(update={"site": site(wheels={"index": "https://i.example"})}),
        spec(),
    ]
    digests = {outside_digest(other) for other in others}
    assert base not in digests
    assert len(digests) == len(others)
    assert {request_digest(other) for other in others} == {request_digest(spec())}


def test_the_containers_packages_are_a_tree_of_their_own() -> None:
    requests = _requests(with_recipe())
    assert requests["container"] == ["?essential", "usr-is-merged", "python3"]
    assert "container" not in _requests(with_container("oci-archive:a"))


def test_a_lock_fits_its_container_or_none(tmp_path: Path) -> None:
    asked = with_recipe()
    packages = [
        package("alpha", trees=("image", "container")),
        package("python3", "1" * 64, trees=("container",)),
    ]
    container = LockedContainer(source="recipe:vllm", wheels=(wheel("vllm"),))
    update = {"outside": outside_digest(asked), "container": container}
    full = lock(*packages, request=request_digest(asked)).model_copy(update=update)
    path = tmp_path / "cpu.lock.json"
    write_lock(path, full)
    assert read_lock(path, asked) == full
    bare = read_lock(path, spec())
    assert (bare.container, bare.outside) == (None, None)
    assert [(one.name, one.trees) for one in bare.packages] == [("alpha", ("image",))]
    with pytest.raises(UserError, match="for another container") as caught:
        read_lock(path, with_recipe(requirements=["vllm==2"]))
    assert caught.value.hint == "lock anew: imgbuild lock --profile cpu --site debian"

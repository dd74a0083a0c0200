"""The command line: exit codes, messages, and what machines read."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder import __version__
from builder.cli import lock as lock_command
from builder.cli import main
from builder.cli import profiles as profiles_command
from builder.core.errors import UserError
from builder.lock.resolver import request_digest
from builder.lock.store import write_lock
from builder.model.lock import Lock
from builder.model.profile import Profile
from builder.model.spec import Spec
from tests.unit import fakes
from tests.unit.resolve_project import FILES, Files, files

__all__ = ["files"]


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def call(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Run `imgbuild WORDS…` inside the small project."""
    before, umask = signal.getsignal(signal.SIGTERM), os.umask(0o077)
    monkeypatch.chdir(files.project.root)

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["imgbuild", *words])
        with pytest.raises(SystemExit) as ended:
            main.entry()
        captured = capsys.readouterr()
        return Ended(ended.value.code or 0, captured.out, captured.err)  # type: ignore[arg-type]

    yield run
    signal.signal(signal.SIGTERM, before)
    os.umask(umask)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(profiles_command, "list_profiles", fail)


def test_done_is_zero(call: Call) -> None:
    assert call("profiles").code == 0
    assert call("--version") == Ended(0, f"imgbuild, version {__version__}\n", "")
    assert "build" in call("--help").out


def test_a_user_error_is_two_with_its_hint(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, UserError("a fact", hint="do this"))
    assert call("profiles") == Ended(2, "", "imgbuild: a fact (hint: do this)\n")


def test_every_problem_has_its_line(call: Call, files: Files) -> None:
    files.profile("extends: base\nfoo: 1\ndisk: {root: 5}\n")
    ended = call("show", "--profile", "cpu")
    first, second = ended.err.splitlines()
    assert ended.code == 2
    assert first.startswith("imgbuild: config/profiles/cpu.yaml: ")
    assert second.startswith("config/profiles/cpu.yaml: ")
    assert ended.out == ""


def test_a_full_disk_is_two_with_a_hint(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/cache/x"))
    ended = call("profiles")
    assert ended.code == 2
    assert ended.err.startswith("imgbuild: /cache/x: no space left on the disk (hint: ")
    assert "cache prune" in ended.err


def test_another_fault_of_the_host_is_two(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "/x"))
    assert call("profiles") == Ended(2, "", "imgbuild: /x: Permission denied\n")


def test_ctrl_c_is_two(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    ended = call("profiles")
    assert ended.code == 2
    assert ended.err.strip() == "imgbuild: interrupted; nothing half-written is left"


def test_sigterm_is_as_ctrl_c(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def terminate(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(profiles_command, "list_profiles", terminate)
    ended = call("profiles")
    assert ended.code == 2
    assert "interrupted" in ended.err


def test_a_fault_of_imgbuild_is_not_hidden(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        call("profiles")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["profiles", "--jsn"], "No such option: --jsn"),
        (["shwo"], "No such command 'shwo'"),
        (["show"], "Missing option '--profile'"),
        (["build", "--profile"], "requires an argument"),
        (["cache", "prune", "--keep", "-1"], "Invalid value for '--keep'"),
    ],
)
def test_a_wrong_call_is_two(call: Call, words: list[str], told: str) -> None:
    ended = call(*words)
    assert ended.code == 2
    assert told in ended.err
    assert ended.out == ""


def test_outside_a_project(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path.parent)
    ended = call("profiles")
    assert ended.code == 2
    assert "not inside an imgbuild project" in ended.err


def test_files_do_not_depend_on_the_callers_umask(call: Call) -> None:
    call("profiles")
    assert os.umask(0o022) == 0o022


def test_profiles_for_machines(call: Call, files: Files) -> None:
    files.profile("extends: base\nfoo: 1\n", "broken")
    told = {row["name"]: row for row in json.loads(call("profiles", "--json").out)}
    assert list(told) == ["base", "broken", "cpu"]
    assert told["base"]["abstract"] is True
    assert told["cpu"]["extends"] == "base"
    assert told["cpu"]["description"] == "no GPU"
    assert told["cpu"]["error"] is None
    assert "foo: unknown key" in told["broken"]["error"]


def test_profiles_for_people(call: Call, files: Files) -> None:
    files.profile(FILES["config/profiles/cpu.yaml"].replace("no GPU", "'[bold]x[/nope]'"))
    out = call("profiles").out
    assert "(base)" in out
    assert "[bold]x[/nope]" in out


def test_show_for_machines_is_the_spec(call: Call, files: Files) -> None:
    ended = call("show", "--profile", "cpu", "--json")
    assert Spec.model_validate_json(ended.out) == files.resolve()
    told = json.loads(ended.out)
    assert told["origins"]["profile.disk.root"] == "config/profiles/cpu.yaml"


def test_show_for_people_says_where_each_value_is_set(call: Call, files: Files) -> None:
    files.profile("extends: base\nkernel: {cmdline: ['isolcpus=[/x]']}\n")
    rows = {
        line.split()[0]: line.split()[1:] for line in call("show", "-p", "cpu").out.splitlines()
    }
    assert rows["profile.kernel.cmdline"] == ["isolcpus=[/x]", "config/profiles/cpu.yaml"]
    assert rows["profile.disk.esp"][-1] == "config/profiles/base.yaml"
    assert rows["profile.node.watchdog_s"] == ["60", "default"]


def test_every_field_of_a_profile_is_shown(call: Call) -> None:
    out = call("show", "-p", "cpu").out
    for name in Profile.model_fields:
        assert f"profile.{name}" in out


def locked(files: Files) -> Lock:
    lock = fakes.lock(request=request_digest(files.resolve()))
    write_lock(files.project.locks / "cpu.lock.json", lock)
    return lock


@pytest.mark.parametrize(("stale", "code"), [([], 0), (["bookworm: locked then, mirror now"], 1)])
def test_lock_check_tells_by_its_exit_code(
    call: Call, files: Files, monkeypatch: pytest.MonkeyPatch, stale: list[str], code: int
) -> None:
    locked(files)
    monkeypatch.setattr(lock_command, "mirror_ages", lambda *_: [])
    monkeypatch.setattr(lock_command, "stale_suites", lambda *_: stale)
    ended = call("lock", "--profile", "cpu", "--check")
    assert (ended.code, ended.out.splitlines()) == (code, stale)


def test_lock_says_what_changed(call: Call, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    old = locked(files)
    packages = (fakes.package(version="1:3.0-1"), fakes.package("beta"))
    new = old.model_copy(update={"packages": packages})
    monkeypatch.setattr(lock_command, "resolve_lock", lambda *_: new)
    ended = call("lock", "--profile", "cpu")
    path = files.project.locks / "cpu.lock.json"
    assert (ended.code, ended.out) == (0, f"{path}\n")
    assert ended.err.splitlines() == ["alpha: 1:2.0-1 → 1:3.0-1", "beta: new → 1:2.0-1"]
    assert Lock.model_validate_json(path.read_text()) == new


def test_lock_refuses_a_mirror_older_than_the_lock(
    call: Call, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = locked(files)
    path = files.project.locks / "cpu.lock.json"
    before = path.read_text()
    new = fakes.lock(request=old.request, date=fakes.EPOCH - 60)
    monkeypatch.setattr(lock_command, "resolve_lock", lambda *_: new)
    ended = call("lock", "--profile", "cpu")
    assert (ended.code, path.read_text()) == (2, before)
    assert "older than the lock" in ended.err
    assert call("lock", "--profile", "cpu", "--allow-older").code == 0
    assert Lock.model_validate_json(path.read_text()) == new


def test_a_build_that_must_be_locked(call: Call) -> None:
    ended = call("build", "--profile", "cpu", "--locked")
    assert ended.code == 2
    assert "cpu.lock.json: there is no lock (hint: imgbuild lock" in ended.err


def test_a_build_refuses_a_lock_for_something_else(call: Call, files: Files) -> None:
    locked(files)
    files.profile("extends: base\npackages: {include: [emacs]}\n")
    ended = call("build", "--profile", "cpu")
    assert ended.code == 2
    assert "the lock is for other packages" in ended.err


def test_an_empty_cache(call: Call) -> None:
    assert "in 0 results" in call("cache", "list").out
    assert call("cache", "prune").out == "removed 0 results, 0 bytes\n"

"""`imgnode model …` and `imgnode serve …`: what is judged, written, taken back, shown."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgnode import cli
from imgnode.commands import model as model_command
from imgnode.commands import serve as serve_command
from imgnode.commands import status as status_command
from imgnode.fault import Fault
from imgnode.identity import Identity
from imgnode.nodeconfig import SEED
from imgnode.process import Finished
from imgnode.serve import change, choice, override, report, runner
from imgnode.serve.choice import Attempt, Choice
from imgnode.serve.plan import read_wish
from imgnode.serve.report import Reporter, lines
from tests.unit.serve_node import BUNDLE, DIGEST, MODEL, REFERENCE, SERVE, make, put, seed

GOOD = {"model": MODEL}
Service = Callable[[dict[str, Any]], None]


class Systemd:
    """Plays systemctl and the service; `behave` writes what the service says after a restart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.now = 100.0
        self.behave: Service = lambda _: None
        self.rc = 0

    def run(self, argv: list[str], *, timeout_s: float) -> Finished:
        assert timeout_s > 0
        self.calls.append(" ".join(argv[1:]))
        return Finished(self.rc, "", "Unit not found")

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.behave(read_wish(0, self.root).settings)

    def says(self, wanted: dict[str, Any], in_force: dict[str, Any] | None = None) -> Reporter:
        attempt = Attempt(3, "config", "too long") if in_force else Attempt()
        return Reporter(Choice(wanted, in_force or wanted, attempt), self.now, self.root)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd(make(tmp_path, serve={**SERVE, "start_timeout_s": 0}))
    monkeypatch.setattr(change, "run", made.run)
    monkeypatch.setattr(change, "_GRACE_S", 20)
    monkeypatch.setattr(time, "sleep", made.sleep)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(model_command, "_ROOT", tmp_path)
    monkeypatch.setattr(serve_command, "_ROOT", tmp_path)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return made


def values(systemd: Systemd) -> dict[str, Any]:
    return override.load(GOOD, systemd.root).values


def call(*words: str) -> int:
    try:
        cli.main(list(words))
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)
            return 1
        return end.code or 0
    return 0


def test_a_change_that_comes_up(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    systemd.behave = lambda wanted: systemd.says(wanted).serving("up", 5)
    assert call("model", "set", "max_model_len=512", "extra_args.enforce-eager=true") == 0
    assert values(systemd) == {"max_model_len": 512, "extra_args": {"enforce-eager": True}}
    assert capsys.readouterr().out.endswith(f"serving {MODEL}\n")
    assert systemd.calls == ["reset-failed vllm.service", "restart --no-block vllm.service"]
    assert call("model", "set", "extra_args.seed=3", "--no-wait") == 0
    assert values(systemd)["extra_args"] == {"enforce-eager": True, "seed": 3}
    assert call("model", "unset", "max_model_len", "extra_args.seed") == 0
    assert values(systemd) == {"extra_args": {"enforce-eager": True}}
    assert call("model", "unset", "--all") == 0
    assert values(systemd) == {}


@pytest.mark.parametrize("how", ["fails", "falls back", "never"])
def test_a_change_that_does_not_come_up_is_taken_back(
    systemd: Systemd, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    before = {"max_num_seqs": 4}
    override.save(override.Override(choice.digest(GOOD), before), systemd.root)

    def behave(wanted: dict[str, Any]) -> None:
        if how == "fails":
            systemd.says(wanted).failed(change_fault(), 1)
        elif how == "falls back":
            systemd.says(wanted, GOOD).loading("starting")

    systemd.behave = behave
    assert call("model", "set", "max_model_len=99999") == 1
    assert values(systemd) == before
    assert systemd.calls.count("restart --no-block vllm.service") == 2
    told = capsys.readouterr().out
    assert "back at what was served before" in told
    assert {
        "fails": "config: too long",
        "falls back": "too long",
        "never": "no token within 20 s",
    }[how] in told


def test_a_model_that_is_nowhere_is_refused_while_the_old_one_serves(
    systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("model", "set", "model=org/none") == 2
    assert "inference.model: the model org/none is not on this node" in capsys.readouterr().err
    assert values(systemd) == {}
    assert systemd.calls == []


@pytest.mark.parametrize("kind", ["fetch", "disk"])
def test_a_model_that_cannot_be_had_now_changes_nothing(
    systemd: Systemd, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def fails(*_: object) -> None:
        raise Fault(kind, "no answer")

    monkeypatch.setattr(change, "provide", fails)
    assert call("model", "set", "model=org/none") == 1
    assert "no answer; nothing was changed" in capsys.readouterr().out
    assert values(systemd) == {}
    assert systemd.calls == []


def change_fault() -> Fault:
    return Fault("config", "too long")


def test_what_another_start_said_does_not_count(systemd: Systemd) -> None:
    """Neither the run before the restart, nor one of another config."""
    systemd.says(GOOD).serving("up", 5)
    systemd.now += 1
    systemd.behave = lambda _: systemd.says(GOOD).serving("up", 5)
    assert call("model", "set", "max_model_len=512") == 1


@pytest.mark.parametrize("phase", ["fetch", "copy"])
def test_fetching_and_copying_take_their_time(systemd: Systemd, phase: str) -> None:
    steps = iter(range(100_000))

    def behave(wanted: dict[str, Any]) -> None:
        if next(steps) < 25:
            systemd.says(wanted).loading("going on", phase)
        else:
            systemd.says(wanted).serving("up", 5)

    systemd.behave = behave
    assert call("model", "set", "--model", MODEL) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["max_model_length=5"], "did you mean 'max_model_len'?"),
        (["max_model_len=-5"], "inference.max_model_len: -5 is less than 1"),
        (["max_model_len='5'"], "must be a whole number"),
        (["max_model_len"], "no value (hint: write KEY=VALUE)"),
        (["nonesuch=null"], "unknown key"),
        (["tensor_parallel_size=2"], "this node has none"),
        (["extra_args.trust-remote-code=true"], "it would run code"),
        (["api_key=sk-12345"], "must be a reference to a secret"),
        (["dtype=[1"], "is not YAML"),
        (["dtype=*x"], "anchors and aliases"),
        (["--model", "../etc"], "does not fit"),
        ([], "nothing to set"),
    ],
)
def test_a_wrong_change_writes_nothing(
    systemd: Systemd, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert call("model", "set", *words) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "sk-12345" not in err
    assert values(systemd) == {}
    assert systemd.calls == []


def test_a_value_of_the_seed_can_be_taken_away(systemd: Systemd) -> None:
    seed(systemd.root, {**GOOD, "max_model_len": 512})
    assert call("model", "set", "max_model_len=null", "--no-wait") == 0
    assert read_wish(0, systemd.root).settings == GOOD


def test_a_change_gives_new_tries(systemd: Systemd) -> None:
    wanted = {**GOOD, "max_model_len": 512}
    for _ in range(3):
        choice.begin(wanted, systemd.root)
    assert call("model", "set", "max_model_len=512", "--no-wait") == 0
    assert choice.load_attempt(wanted, systemd.root).count == 0
    for _ in range(3):
        choice.begin(wanted, systemd.root)
    assert call("model", "retry") == 0
    assert choice.load_attempt(wanted, systemd.root).count == 0


def test_without_systemd_it_says_so(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    systemd.rc = 5
    assert call("model", "retry") == 1
    assert "systemctl restart vllm.service: Unit not found" in capsys.readouterr().out


def test_what_is_in_force_and_where_it_comes_from(
    systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("model", "set", "max_model_len=512", "--no-wait") == 0
    systemd.says({**GOOD, "max_model_len": 512}).serving(f"serving {MODEL}", 5)
    capsys.readouterr()
    assert call("model", "show") == 0
    assert capsys.readouterr().out.splitlines() == [
        "# from: seed",
        f'model: "{MODEL}"',
        f"{'max_model_len: 512':<44}  # imgnode model set",
        f"# serving: serving {MODEL}",
    ]
    assert call("model", "show", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["inference"] == {**GOOD, "max_model_len": 512}
    assert facts["origins"] == {"model": SEED, "max_model_len": "imgnode model set"}
    assert facts["service"]["state"] == "serving"


def test_a_fallback_is_shown(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {**GOOD, "max_model_len": 99999}
    seed(systemd.root, wanted)
    systemd.says(wanted, GOOD).serving(f"serving {MODEL}", 5)
    capsys.readouterr()
    assert call("model", "show") == 0
    told = capsys.readouterr().out
    assert told.startswith(f'# from: proven\nmodel: "{MODEL}"\n')
    assert "# FALLBACK: wanted is" in told
    assert "# last error (config): too long" in told
    assert "max_model_len: 99999" not in told


def test_status_has_a_line_for_serving(systemd: Systemd) -> None:
    assert lines(None) == []
    systemd.says(GOOD).loading("fetching")
    assert lines(report.read(systemd.root)) == ["serve    loading: fetching"]
    systemd.says({"model": "b"}, GOOD).serving("serving a", 1)
    assert lines(report.read(systemd.root)) == [
        "serve    serving: serving a",
        "serve    FALLBACK: the last good config is served, not the wanted one",
        "serve    config: too long",
    ]
    systemd.says(GOOD).failed(change_fault(), 1)
    assert lines(report.read(systemd.root)) == ["serve    failed: too long"]


def test_no_config_yet(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    (systemd.root / "run/imgnode/node.json").unlink()
    assert call("model", "show") == 1
    assert "imgnode-seed.service" in capsys.readouterr().out


def test_models_are_listed(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    put(systemd.root / "var/lib/imgnode/models/org--hand/config.json", {})
    assert call("model", "list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        [MODEL, "main", "0.0", "GiB", "bundle"],
        ["org/hand", "-", "0.0", "GiB", "by", "hand"],
    ]


def test_fetching_what_is_there_tells_where(
    systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("model", "fetch", MODEL) == 0
    assert f"is in {systemd.root}/run/imgnode/layers/{BUNDLE} (bundle)" in capsys.readouterr().out
    assert call("model", "fetch", "no/such") == 1
    assert "the site has no mirror" in capsys.readouterr().out
    assert call("model", "fetch", "../x") == 2


def test_the_command_line_is_shown(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    put(systemd.root / "etc/credstore/imgnode.key", "SECRET")
    seed(systemd.root, {**GOOD, "api_key": {"secret": "key"}})
    assert call("serve", "show") == 0
    told = capsys.readouterr().out
    assert told.startswith("docker \\\n  run \\\n  --name=vllm")
    assert REFERENCE in told
    assert "--env=VLLM_API_KEY \\\n" in told
    assert "SECRET" not in told
    put(systemd.root / "run/imgnode/docker-copy.json", {"digest": DIGEST, "id": "sha256:copy"})
    assert call("serve", "show") == 0
    told = capsys.readouterr().out
    assert told.startswith(f"# Docker's own copy of {REFERENCE}\ndocker \\\n")
    assert f"\n  {REFERENCE}" not in told
    assert "sha256:copy \\\n" in told
    seed(systemd.root, {})
    assert call("serve", "show") == 1


def test_a_missing_gpu_is_told_beside_the_command_line(
    systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    make(systemd.root, gpu={"mig": None}, gpu_runtime="devices")
    assert call("serve", "show") == 0
    told = capsys.readouterr()
    assert "--mount=type=bind,src=/usr/lib/imgnode/gpu,dst=/usr/local/nvidia,readonly" in told.out
    assert "a start would fail: no GPU: /dev/nvidia0 is missing" in told.err


@pytest.mark.parametrize(
    ("there", "code"),
    [(True, 0), (False, 1), (ValueError("damaged"), 255), (OSError(5, "I/O"), 255)],
)
def test_systemd_learns_whether_there_is_anything_to_serve(
    monkeypatch: pytest.MonkeyPatch, there: bool | Exception, code: int
) -> None:
    def wanted() -> bool:
        if isinstance(there, Exception):
            raise there
        return there

    monkeypatch.setattr(runner, "wanted", wanted)
    assert call("serve", "wanted") == code


def test_a_start_becomes_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: became.append((path, words)))
    assert call("serve", "run") == 0
    assert became == [(sys.executable, (sys.executable, "-P", "-m", "imgnode.serve"))]


def test_not_root(systemd: Systemd, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:  # noqa: ANN401
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/imgnode/model")

    monkeypatch.setattr(override, "save", denied)
    assert call("model", "set", "dtype=auto") == 1
    assert "not allowed (hint: sudo)" in capsys.readouterr().out
    assert systemd.calls == []


def test_status_tells_how_it_serves(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systemd.says(GOOD).serving(f"serving {MODEL}", 5)
    told = report.read(systemd.root)
    identity = Identity("x", "1", "0" * 64, None, None)
    monkeypatch.setattr(status_command, "read_identity", lambda: identity)
    monkeypatch.setattr(status_command, "read_serving", lambda: told)
    cli.main(["status"])
    assert f"serve    serving: serving {MODEL}\n" in capsys.readouterr().out

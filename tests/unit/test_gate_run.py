"""The gate as a whole: how long it waits, what it decides, what comes of it, how it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imgnode import cli
from imgnode.commands import gate as command
from imgnode.gate import consequence, quarantine, report, run, systemd
from imgnode.gate.attribution import DISK, DOCKER, GPU, SERVE, UNITS
from imgnode.gate.entries import Trial, read_trial
from imgnode.gate.finding import (
    CLASSES,
    CONFIG,
    EXTERNAL,
    HARDWARE,
    IMAGE,
    OK,
    Finding,
    Look,
    Waiting,
)
from imgnode.serve import change
from tests.unit import serve_node
from tests.unit.test_imgnode import HASH, counting

OTHER = "x_0.efi"
NOTE = Finding(SERVE, OK, "serving org/small")


@dataclass
class Fake:
    """A check that says what it is told, its last look again and again."""

    name: str
    looks: Sequence[Look | Exception]
    limit_s: float = 60
    asked: int = field(default=0)

    def look(self) -> Look:
        self.asked += 1
        found = self.looks[min(self.asked, len(self.looks)) - 1]
        if isinstance(found, Exception):
            raise found
        return found


class Stage:
    """A node whose time passes as the gate sleeps."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.now = 1000.0
        self.done: list[str] = []
        self.notified: list[str] = []
        self.checks: list[Fake] = []
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self._sleep)
        monkeypatch.setattr(run, "notify", lambda *lines: self.notified.extend(lines))
        monkeypatch.setattr(run, "checks", lambda _: self.checks)
        monkeypatch.setattr(systemd, "act", lambda *words: self.done.append(" ".join(words)))
        monkeypatch.setattr(report, "run", lambda argv, **_: self.done.append(Path(argv[0]).name))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def judge(self, *checks: Fake, boot: bool = False) -> report.Verdict:
        self.checks = list(checks)
        self.done.clear()
        return run.run(self.root, boot=boot)

    def with_entries(self, *names: str, entry: str | None = None) -> None:
        """Say what lies on the ESP, and which of it booted with a counter."""
        folder = self.root / "boot/EFI/Linux"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).touch()
        if entry:
            counting(self.root, rf"\EFI\Linux\{entry}")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    serve_node.make(tmp_path, epoch=1)
    serve_node.put(tmp_path / "proc/cmdline", f"roothash={HASH} ro\n")
    return Stage(tmp_path, monkeypatch)


def says(check: str, whose: str, fact: str = "a fact") -> Fake:
    return Fake(check, [Look((Finding(check, whose, fact),))])


def waiting(whose: str, text: str = "loading", *, free: bool = False) -> Look:
    return Look(waiting=Waiting(text, Finding(SERVE, whose, "too late"), free))


def prom(root: Path) -> dict[str, float]:
    lines = (root / "run/imgnode/metrics/gate.prom").read_text().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_it_waits_as_long_as_a_check_gets_on(stage: Stage) -> None:
    slow = Fake(SERVE, [waiting(CONFIG, "a")] * 5 + [waiting(CONFIG, "b"), Look((NOTE,))])
    verdict = stage.judge(Fake(UNITS, [Look()]), slow)
    assert (verdict.whose, verdict.text, verdict.seconds) == (OK, "serving org/small", 18)
    assert stage.notified.count("STATUS=serve: a") >= 1
    assert stage.notified.count("STATUS=serve: b") >= 1
    assert stage.notified.count("EXTEND_TIMEOUT_USEC=600000000") == 8  # with each look


def test_its_limit_ends_a_wait_and_fetching_has_another(stage: Stage) -> None:
    verdict = stage.judge(Fake(SERVE, [waiting(CONFIG)], limit_s=60))
    assert (verdict.whose, verdict.text) == (CONFIG, "too late")
    assert 60 <= verdict.seconds <= 66
    fetching = [waiting(EXTERNAL, free=True)] * 1000
    verdict = stage.judge(Fake(SERVE, [*fetching, waiting(CONFIG)], limit_s=60))
    assert (verdict.whose, verdict.seconds) == (CONFIG, 3063)
    verdict = stage.judge(Fake(SERVE, [waiting(EXTERNAL, free=True)], limit_s=60))
    assert verdict.whose == EXTERNAL
    assert verdict.seconds == pytest.approx(4 * 3600, abs=10)


def test_what_nothing_can_change_ends_the_run(stage: Stage) -> None:
    serve = Fake(SERVE, [waiting(CONFIG)])
    for whose in (HARDWARE, IMAGE):
        assert stage.judge(says(GPU, whose), serve).whose == whose
    assert serve.asked == 0
    assert stage.judge(says(UNITS, CONFIG), serve).whose == CONFIG
    assert serve.asked > 0


def test_a_consequence_does_not_end_it(stage: Stage) -> None:
    """A full disk takes Docker along; the cause is told."""
    verdict = stage.judge(says(DISK, EXTERNAL, "full"), says(DOCKER, IMAGE), says(SERVE, OK))
    assert (verdict.whose, verdict.text) == (EXTERNAL, "full")
    assert len(verdict.evidence) == 3


@pytest.mark.parametrize("error", [OSError("systemd does not answer"), ValueError("x"), KeyError()])
def test_what_cannot_be_judged_is_the_images(stage: Stage, error: Exception) -> None:
    verdict = stage.judge(Fake(UNITS, [error]))
    assert verdict.whose == IMAGE
    assert verdict.text.startswith("units cannot be judged: ")


@pytest.mark.parametrize("whose", CLASSES)
def test_each_verdict_is_told_everywhere(
    stage: Stage, capfd: pytest.CaptureFixture[str], whose: str
) -> None:
    verdict = stage.judge(says(GPU, whose, "a\\b\nc"))
    assert run.exit_code(verdict) == (1 if whose == IMAGE else 0)
    told = json.loads((stage.root / "run/imgnode/gate.json").read_text())
    assert (told["state"], told["class"], told["text"]) == ("done", whose, "a\\b c")
    assert told["evidence"] == [{"check": GPU, "whose": whose, "fact": "a\\b\nc", "hint": None}]
    assert report.read_history(stage.root)[-1] == told
    for one in CLASSES:
        assert prom(stage.root)[f'imgnode_gate_verdict{{class="{one}"}}'] == (one == whose)
    out, err = capfd.readouterr()
    assert f"gate: {whose}: a\\b c\n" in (out if whose == OK else err)
    issue, motd = stage.root / "run/imgnode/gate.issue", stage.root / "run/motd.d/imgnode-gate"
    if whose == OK:
        assert not issue.exists()
        assert not motd.exists()
    else:
        assert issue.read_text().startswith(f"gate: {whose}: a\\\\b c\n")
        assert motd.read_text().startswith(f"gate: {whose}: a\\b c\n")
    assert "agetty" in stage.done


def test_a_better_verdict_takes_the_worse_one_off_the_screens(stage: Stage) -> None:
    stage.judge(says(GPU, CONFIG))
    stage.judge(says(GPU, OK))
    assert not (stage.root / "run/imgnode/gate.issue").exists()
    assert not (stage.root / "run/motd.d/imgnode-gate").exists()


def test_no_verdict_is_told_before_there_is_one(stage: Stage) -> None:
    seen: list[str] = []

    class Spy(Fake):
        def look(self) -> Look:
            seen.extend(report.lines(report.read(stage.root)))
            assert sum(prom(stage.root).values()) == 0
            return super().look()

    stage.judge(Spy(SERVE, [waiting(CONFIG, "loading x"), Look((NOTE,))]))
    assert seen == ["gate     judging: gate: looking", "gate     judging: serve: loading x"]


def test_the_history_is_kept_and_bounded(stage: Stage) -> None:
    for number in range(52):
        stage.judge(says(GPU, OK, f"{number}"))
    kept = report.read_history(stage.root)
    assert [one["text"] for one in kept] == [str(n) for n in range(2, 52)]
    assert kept[0]["version"] == "1"
    serve_node.put(stage.root / report.HISTORY, '{"verdicts": [1, {}]}')
    assert report.read_history(stage.root) == [{}]
    serve_node.put(stage.root / report.HISTORY, "cut o")
    stage.judge(says(GPU, OK))
    assert len(report.read_history(stage.root)) == 1


def test_a_var_that_takes_no_history_does_not_lose_the_verdict(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    serve_node.put(stage.root / "var/lib/imgnode/gate", "a file where the folder should be")
    assert stage.judge(says(DISK, HARDWARE)).whose == HARDWARE
    assert "gate: no history: " in capfd.readouterr().err


def test_quarantine_stops_serving_until_it_is_lifted(stage: Stage) -> None:
    stage.judge(says(GPU, HARDWARE, "found 0"))
    assert stage.done == ["agetty", "stop vllm.service"]
    assert quarantine.read(stage.root) == "found 0"
    with pytest.raises(change.NotServed, match="in quarantine: found 0; nothing was changed"):
        change.retry(stage.root)
    with pytest.raises(change.NotServed, match="in quarantine"):
        change.apply(change.Change({"model": "a/b"}), stage.root)
    stage.judge(says(GPU, OK))
    assert stage.done == ["start vllm.service", "agetty"]
    assert quarantine.read(stage.root) is None


MINE = "x_1+2-1.efi"


@pytest.mark.parametrize(
    ("names", "entry", "trial"),
    [
        (["x_1.efi"], None, Trial(None, ("x_1.efi",))),
        ([MINE, OTHER], MINE, Trial(2, (OTHER,))),
        ([MINE, "x_0+1-2.efi"], MINE, Trial(2, ("x_0+1-2.efi",))),
        ([MINE, "x_0+0-3.efi", "x.conf", "a+b.efi"], MINE, Trial(2, ())),
        (["x_1+0-3.efi", OTHER], "x_1+0-3.efi", Trial(0, (OTHER,))),
        (["x_1.efi", OTHER], MINE, Trial(None, (OTHER,))),  # blessed since
        ([], MINE, Trial(None, ())),
    ],
)
def test_how_a_version_stands(
    stage: Stage, names: list[str], entry: str | None, trial: Trial
) -> None:
    stage.with_entries(*names, entry=entry)
    assert read_trial(stage.root) == trial


@pytest.mark.parametrize(
    ("names", "entry", "boot", "text"),
    [
        ([MINE, OTHER], MINE, True, "rebooting in 10 s: tries left: 2"),
        (["x_1+0-3.efi", OTHER], "x_1+0-3.efi", True, "rebooting in 10 s: no try is left, back"),
        ([MINE, OTHER], MINE, False, "the next boot takes one of the tries"),
        ([MINE], MINE, True, "there is no other version to go back to"),
        (["x_1+0-4.efi"], "x_1+0-4.efi", True, "there is no other version to go back to"),
        ([MINE, "x_0+0-3.efi"], MINE, True, "there is no other version to go back to"),
        (["x_1.efi", OTHER], MINE, True, "this version was good before"),
        (["x_1.efi", OTHER], None, True, "this version was good before"),
    ],
)
def test_only_a_version_on_trial_with_another_beside_it_reboots(
    stage: Stage, names: list[str], entry: str | None, boot: bool, text: str
) -> None:
    stage.with_entries(*names, entry=entry)
    before = stage.now
    stage.judge(says(UNITS, IMAGE), boot=boot)
    assert json.loads((stage.root / report.FILE).read_text())["then"].startswith(text)
    reboots = "rebooting" in text
    assert stage.done == ["agetty", *(["reboot"] if reboots else [])]
    assert stage.now - before == (consequence.PAUSE_S if reboots else 0)


@pytest.mark.parametrize("whose", [OK, CONFIG, HARDWARE, EXTERNAL])
def test_no_other_verdict_reboots(stage: Stage, whose: str) -> None:
    stage.with_entries(MINE, OTHER, entry=MINE)
    stage.judge(says(GPU, whose), boot=True)
    assert "reboot" not in stage.done


def test_the_command(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_ROOT", stage.root)
    cli.main(["gate", "show"])
    assert capsys.readouterr().out == "gate     has not begun yet\n"
    for whose, code in ((OK, 0), (IMAGE, 1)):
        stage.checks = [Fake(UNITS, [Look((Finding(UNITS, whose, "a fact", "a hint"),))])]
        with pytest.raises(SystemExit) as ended:
            cli.main(["gate", "run"])
        assert ended.value.code == code
    capsys.readouterr()
    cli.main(["gate", "show"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == [
        "gate     image: a fact",
        "gate     this version was good before: the node stays up",
        "  units    image: a fact (hint: a hint)",
    ]
    assert [line.partition("  ")[2] for line in shown[3:]] == [
        "1 in ?, good: image: a fact",
        "1 in ?, good: ok: a fact",
    ]
    cli.main(["gate", "show", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["now"]["class"] == IMAGE
    assert [one["class"] for one in told["history"]] == [OK, IMAGE]


def test_a_person_without_sudo_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/run/imgnode/gate.json")

    monkeypatch.setattr(command, "run", refuse)
    with pytest.raises(SystemExit, match=r"gate\.json: not allowed \(hint: sudo\)"):
        cli.main(["gate", "run"])
    assert stage.done == []

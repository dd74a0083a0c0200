"""Acts on what the health checks found, one rung of the ladder at a time, without ever waiting.

`Engine.consider` is called after each round of checks and returns within a second or two: programs
run as children and are looked after at the next call. What is begun stands on the disk before: an
engine that starts anew goes on there, and after a reboot looks whether the rung has helped.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from imgnode.alert.desk import Desk
from imgnode.alone import CHANGE, Lock
from imgnode.gate import quarantine
from imgnode.gate.entries import read_trial
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.recover import history, ladder, report
from imgnode.recover.check import Check
from imgnode.recover.holds import Holds
from imgnode.recover.ladder import RUNGS, Rung
from imgnode.recover.report import ACTING, GIVEN_UP, PAUSED, WAITING, Told
from imgnode.recover.seen import Seen
from imgnode.recover.state import NODE, Episode, Running, State, Store, Trouble, boot_id
from imgnode.recover.steps import STEPS, Target
from imgnode.recover.work import Start, Work, start

ACTOR = "recovery"  # who has the lock of all that changes the node
_ERR, _NOTICE = "<3>", "<5>"  # sd-daemon(3)
Tell = Callable[[Sequence[Finding], float], None]


class Engine:
    """One for each process; of all processes one acts at a time (imgnode/alone.py).

    `alerts` takes all findings, ours among them; without it, they go to the alert desk.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        alerts: Tell | None = None,
        start: Start = start,
        wall: Callable[[], float] = time.time,
        holds: Holds | None = None,
    ) -> None:
        self._root, self._start, self._wall = root, start, wall
        self._alerts = alerts or Desk(root).consider
        self._holds = holds or Holds(root, wall=wall)
        self._store = Store(root)
        self._lock = Lock(CHANGE, root)
        self._work: Work | None = None
        self._check: Check | None = None
        self._hopeless = False
        self._seen = Seen()
        self._told: tuple[object, ...] = ()
        self._on_disk = True

    @property
    def state(self) -> State:
        """What recovery remembers."""
        return self._store.load(self._wall())

    @property
    def busy(self) -> bool:
        """Whether a rung is being done, and is to be looked after soon."""
        return self._lock.held

    def consider(self, findings: Iterable[Finding], now: float) -> None:
        """Do what is to be done now about `findings`; `now` is time.monotonic()."""
        found = tuple(findings)
        troubles = self._seen.look(found, now)
        state = self.state.in_time(self._wall())
        if state is not self.state:
            self._set(state)
        if self.state.running is not None:
            told = self._go_on(self.state.running, found, now)
        else:
            self._close_what_is_over(now)
            told = self._begin(troubles, now)
        self._tell(told)
        self._alerts([*found, *self.complaints()], now)

    def order(self, trouble: Trouble, now: float) -> str | None:
        """Begin a rung for a person, whatever holds; return who is at it already, or None."""
        busy = self._lock.take("recovery by hand")
        if busy is None:
            self._begin_rung(RUNGS[trouble.remedy], trouble, now, manual=True)
        return busy

    def complaints(self) -> list[Finding]:
        """Return what recovery itself has to tell a person."""
        found = []
        why = quarantine.read(self._root)
        if why is not None:
            hint = quarantine.hint(self._root)
            found.append(Finding("recover", "quarantine", Level.FAILED, f"quarantine: {why}", hint))
        if why is None:
            failing = (one for one in self.state.episodes.values() if one.given_up or one.tried)
            found += [_complaint(one) for one in failing]
        return found

    def _close_what_is_over(self, now: float) -> None:
        """Close the episodes whose trouble went without our doing."""
        for family, episode in self.state.episodes.items():
            if self._seen.is_away(family, now):
                self._set(self.state.with_episode(family, None))
                self._note("over", episode.trouble, text="the trouble is gone")

    def _begin(self, troubles: Sequence[Trouble], now: float) -> Told:
        """Begin the next rung of the worst trouble that nothing keeps us from."""
        pause, why = self._holds.by_hand(), quarantine.read(self._root)
        if pause is not None:
            return Told(PAUSED, pause)
        if why is not None:
            return Told(GIVEN_UP, f"quarantine: {why}")
        if not troubles:
            return Told()
        hold = self._holds.by_the_gate()
        if hold is not None:
            return Told(WAITING, f"{hold}: {troubles[0].fact}")
        waits = []
        for trouble in troubles:
            told = self._try(trouble, now)
            if told.state == ACTING:
                return told
            waits.append(told)
        return waits[0]

    def _try(self, trouble: Trouble, now: float) -> Told:
        """Begin the next rung about one trouble, or say why not."""
        state, wall = self.state, self._wall()
        episode = state.episodes.get(trouble.family)
        worse = episode is not None and (
            ladder.severity(trouble.remedy) > ladder.severity(episode.trouble.remedy)
        )
        if episode is not None and episode.given_up and not worse:
            return Told(GIVEN_UP, episode.trouble.fact)
        hold = self._holds.of(trouble, self._seen.lasts_s(trouble, now), now)
        if hold is not None:
            return Told(WAITING, f"{hold}: {trouble.fact}")
        wait = ladder.wait_s(trouble.family, state, wall)
        if wait > 0:
            at = time.strftime("%H:%M:%S UTC", time.gmtime(round(wall + wait)))
            return Told(WAITING, f"next try at {at}: {trouble.fact}")
        tried = episode.tried if episode else ()
        rung = ladder.next_rung(trouble, tried, state, wall, can_reboot=self._can_reboot())
        if rung is None:
            return self._give_up(trouble, tried)
        busy = self._lock.take(ACTOR)
        if busy is not None:
            return Told(WAITING, f"{busy} goes on: {trouble.fact}")
        return self._begin_rung(rung, trouble, now)

    def _can_reboot(self) -> bool:
        """Tell whether a reboot is safe: unremembered ones could loop, on trial it costs a try."""
        return self._on_disk and read_trial(self._root).left is None

    def _give_up(self, trouble: Trouble, tried: tuple[str, ...]) -> Told:
        episode = Episode(trouble, self._wall(), tried, given_up=True)
        self._set(self.state.with_episode(trouble.family, episode))
        self._note("given up", trouble, text="no step is left that may be taken now")
        return Told(GIVEN_UP, trouble.fact)

    def _begin_rung(
        self, rung: Rung, trouble: Trouble, now: float, *, manual: bool = False
    ) -> Told:
        state, wall = self.state, self._wall()
        before = state.episodes.get(trouble.family)
        tried = before.tried if before else ()
        began = before.began if before else wall
        episode = Episode(trouble, began, tried)
        running = Running(trouble.family, rung.name, 0, wall, now, boot_id(self._root), manual)
        self._set(replace(state.with_episode(trouble.family, episode), running=running))
        self._note("begin", trouble, rung=rung.name, text=trouble.fact)
        self._work, self._check, self._hopeless = None, None, False
        return self._go_on(running, (), now)

    def _go_on(self, running: Running, found: Sequence[Finding], now: float) -> Told:
        """Go on with the rung that is begun, here or by an engine before this one."""
        if not self._lock.held and (busy := self._lock.take(ACTOR)) is not None:
            return Told(WAITING, f"{busy} goes on")
        rung, episode = RUNGS.get(running.rung), self.state.episodes.get(running.family)
        if rung is None or episode is None:
            return self._end(running, None)
        same_boot = running.boot == boot_id(self._root)
        while same_boot and self.state.running and self.state.running.step < len(rung.steps):
            step = rung.steps[self.state.running.step]
            if not self._do(step, episode.trouble, self.state.running, now):
                return Told(ACTING, f"{rung.name}: {step}: {episode.trouble.fact}")
        why = self._cannot_wait(running)
        if rung.name == Remedy.QUARANTINE or why is not None:
            return self._leave(running, episode, why)
        if self._check is None:
            trouble, root = episode.trouble, self._root
            self._check = Check(running, rung, trouble, same_boot, now, root, self._hopeless)
        helped = self._check.look(found, now)
        if helped is None:
            return Told(ACTING, f"{rung.name}: has it helped? {episode.trouble.fact}")
        return self._judged(running, episode, helped=helped)

    def _judged(self, running: Running, episode: Episode, *, helped: bool) -> Told:
        """Leave a rung of which it is known whether it has helped."""
        text = f"{running.rung} {'has' if helped else 'has not'} helped"
        event, seconds = "recovered" if helped else "failed", round(self._wall() - running.began)
        self._note(event, episode.trouble, text=text, seconds=seconds)
        if helped or running.manual:
            return self._end(running, None)
        return self._end(running, replace(episode, tried=(*episode.tried, running.rung)))

    def _leave(self, running: Running, episode: Episode, why: str | None) -> Told:
        """End a rung without a look whether it has helped."""
        if running.rung == Remedy.QUARANTINE:
            return self._end(running, replace(episode, given_up=True))
        self._note("left", episode.trouble, text=f"{running.rung}: {why}")
        return self._end(running, episode)

    def _cannot_wait(self, running: Running) -> str | None:
        """Return for what the look at a finished rung is left, None where it goes on.

        It may take as long as a model loads, and nobody else changes anything meanwhile.
        """
        others = (one for one in self._seen.now() if one.family == NODE)
        if any(running.family != NODE or one.remedy == Remedy.QUARANTINE for one in others):
            return "something worse came up"
        if running.manual:
            return None
        why = quarantine.read(self._root)
        return self._holds.by_hand() if why is None else f"quarantine: {why}"

    def _do(self, step: str, trouble: Trouble, running: Running, now: float) -> bool:
        """Go on with one step; tell whether it is done."""
        if self._work is None:
            name = ladder.tally_name(step, trouble)
            self._set(self.state.noted(name, self._wall(), step=step))
            if step == "quarantine":
                self._impose(trouble)
            commands = STEPS[step].commands(Target(trouble.unit, trouble.gpus))
            self._work = Work(commands, self._start)
        if not self._work.poll(now):
            return False
        self._note("step", trouble, step=step, rc=self._work.rc)
        self._hopeless |= STEPS[step].vital and self._work.rc != 0
        self._work = None
        self._set(replace(self.state, running=replace(running, step=running.step + 1)))
        return True

    def _impose(self, trouble: Trouble) -> None:
        """Let it last over reboots; where /var takes no file, until the next boot."""
        try:
            quarantine.impose(trouble.fact, self._root, lasting=True)
        except OSError:
            quarantine.impose(trouble.fact, self._root)

    def _end(self, running: Running, episode: Episode | None) -> Told:
        """Leave the rung; the next one waits its time."""
        state = self.state.with_episode(running.family, episode)
        state = state.noted(f"end:{running.family}", self._wall())
        self._set(replace(state, running=None))
        self._work = self._check = None
        self._lock.release()
        if episode is None:
            return Told()
        return Told(GIVEN_UP if episode.given_up else WAITING, episode.trouble.fact)

    def _set(self, state: State) -> None:
        self._on_disk = self._store.save(state)

    def _note(self, event: str, trouble: Trouble, **more: str | float) -> None:
        """Tell the journal and the history."""
        told = {"check": trouble.check, "key": trouble.key, **more}
        mark = _ERR if event in ("failed", "given up") else _NOTICE
        words = " ".join(f"{name}={value}" for name, value in told.items() if name != "text")
        print(f"{mark}recover: {event}: {more.get('text', '')} ({words})", file=sys.stderr)
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            history.add({"when": round(self._wall()), "event": event, **told}, self._root)

    def _tell(self, told: Told) -> None:
        """Write state file and metrics where they have changed."""
        state = self.state
        now = (told, state.totals, state.episodes, quarantine.read(self._root))
        if now != self._told:
            self._told = now
            with contextlib.suppress(OSError):
                report.write(told, state, self._root)


def _complaint(episode: Episode) -> Finding:
    """Return what a person is told of a trouble that did not go with the first rung."""
    trouble, tried = episode.trouble, ", ".join(episode.tried) or "nothing that is allowed now"
    key = "given_up" if episode.given_up else "failing"
    level = Level.WARNING if trouble.remedy == Remedy.UNIT else Level.FAILED
    fact = f"{tried} did not help: {trouble.fact}"
    return Finding("recover", key, level, fact, "imgnode recover status", unit=trouble.unit)

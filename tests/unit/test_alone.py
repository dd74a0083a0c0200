"""One actor at a time: a lock that says who has it, and that no crash leaves behind."""

from __future__ import annotations

import threading
from pathlib import Path

from imgnode.alone import CHANGE, GATE, Lock, holder


def test_one_has_it_and_the_other_learns_who(tmp_path: Path) -> None:
    mine, other = Lock(CHANGE, tmp_path), Lock(CHANGE, tmp_path)
    assert mine.take("an update") is None
    assert (mine.held, other.held) == (True, False)
    assert other.take("recovery") == "an update"
    assert holder(CHANGE, tmp_path) == "an update"
    mine.release()
    assert other.take("recovery") is None


def test_it_goes_with_its_process(tmp_path: Path) -> None:
    mine = Lock(CHANGE, tmp_path)
    assert mine.take("an update") is None
    del mine
    assert holder(CHANGE, tmp_path) is None


def test_gates_share_theirs_and_wait_for_a_look(tmp_path: Path) -> None:
    first, second, look = (Lock(GATE, tmp_path) for _ in range(3))
    assert look.take("a look") is None
    waiting = threading.Thread(target=first.share, args=("the gate",))
    waiting.start()
    assert not first.held
    look.release()
    waiting.join(10)
    second.share("the gate")
    assert holder(GATE, tmp_path) == "the gate"
    first.release()
    assert holder(GATE, tmp_path) == "the gate"
    second.release()
    assert holder(GATE, tmp_path) is None

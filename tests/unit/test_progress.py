"""How events look when piped and for machines."""

from __future__ import annotations

import io
import json
import sys
import threading

import pytest

from builder.cli.progress import _View, sink
from builder.core.events import Event, Note, StageEnded, StageStarted

COMMAND = Note("debug", "mkfs.erofs 'a b'")
EVENTS: list[Event] = [
    StageStarted("root"),
    COMMAND,
    Note("warning", "mirror is newer"),
    Note("info", "two\nlines \u2026"),
    StageEnded("root", "built", 12.34, 151_224_320, "k1"),
    StageEnded("base", "cached", 0.0, 0, "k1"),
    StageEnded("image", "failed", 1.0, 0, "k1"),
]


def shown(
    capsys: pytest.CaptureFixture[str], *, as_json: bool = False, debug: bool = False
) -> tuple[list[str], list[str]]:
    with sink(as_json=as_json, debug=debug) as emit:
        for event in EVENTS:
            if debug or as_json or event != COMMAND:  # a runner tells commands only then
                emit(event)
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_plain_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(capsys)
    assert out == []
    assert err == [
        "warning: mirror is newer",
        "two",
        "lines \u2026",
        "root     built     12.3 s   151.2 MB",
        "base     cached     0.0 s    0 bytes",
        "image    FAILED     1.0 s    0 bytes",
    ]


def test_debug_shows_commands_and_starts(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = shown(capsys, debug=True)
    assert err[:2] == ["root     \u2026", "+ mkfs.erofs 'a b'"]


def test_machines_get_one_json_object_a_line_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, err = shown(capsys, as_json=True)
    assert err == []
    told = [json.loads(line) for line in out]
    assert told[0] == {"event": "StageStarted", "stage": "root"}
    assert told[2] == {"event": "Note", "level": "info", "text": "two\nlines \u2026"}
    assert told[3] == {
        "event": "StageEnded",
        "stage": "root",
        "outcome": "built",
        "seconds": 12.34,
        "bytes": 151_224_320,
        "key": "k1",
    }
    assert len(told) == len(EVENTS) - 1


@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_is_written_at_once(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """Two threads tell events: a line in two writes would be torn apart."""

    class Pieces(io.StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return len(text)

    pieces: list[str] = []
    monkeypatch.setattr(sys, "stdout" if as_json else "stderr", Pieces())
    with sink(as_json=as_json, debug=False) as emit:
        emit(StageEnded("root", "built", 1.0, 0, "k1"))
        emit(Note("info", "text"))
    assert len(pieces) == 2
    assert all(piece.endswith("\n") for piece in pieces)


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_keeps_what_is_done_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with sink(as_json=False, debug=False) as emit:
        threads = [threading.Thread(target=emit, args=(event,)) for event in EVENTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    text = terminal.getvalue()
    assert "cached" in text
    assert "FAILED" in text
    assert "mirror is newer" in text
    assert "mkfs.erofs" not in text


def test_the_live_list_follows_the_stages() -> None:
    view = _View()
    view.take(StageStarted("root"))
    view.take(StageStarted("initrd"))
    view.take(StageEnded("root", "built", 1.0, 0, "k1"))
    assert list(view._running) == ["initrd"]
    assert view._done == [StageEnded("root", "built", 1.0, 0, "k1")]

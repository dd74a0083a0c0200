"""No unit test starts a program or opens a connection by accident.

A test that means to start one says so: `@pytest.mark.allow_commands("sh", …)`.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest


def _program(args: Any) -> str:  # noqa: ANN401 - whatever Popen takes
    first = args if isinstance(args, str | bytes | os.PathLike) else next(iter(args))
    return Path(os.fsdecode(first)).name


def _refuse(what: str) -> NoReturn:
    # pytest.fail raises a BaseException: no handler of the tested code swallows it.
    pytest.fail(f"a unit test {what} (allow a program by the marker allow_commands)")


@pytest.fixture(autouse=True)
def _no_accidents(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = {name for mark in request.node.iter_markers("allow_commands") for name in mark.args}
    genuine = subprocess.Popen.__init__

    def start(self: subprocess.Popen[bytes], args: Any, *rest: Any, **options: Any) -> None:  # noqa: ANN401
        if _program(args) not in allowed:
            _refuse(f"starts {_program(args)}")
        genuine(self, args, *rest, **options)

    def connect(_socket: socket.socket, address: object) -> NoReturn:
        _refuse(f"connects to {address!r}")

    def look_up(host: object, *_: object, **__: object) -> NoReturn:
        _refuse(f"looks up {host!r}")

    def launch(program: object, *_: object, **__: object) -> NoReturn:
        _refuse(f"starts {program!r}")

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    for name in ("system", "posix_spawn", "posix_spawnp"):
        monkeypatch.setattr(os, name, launch)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMGBUILD_PROJECT", "IMGBUILD_CACHE"):
        monkeypatch.delenv(name, raising=False)

"""The guard against accidents in unit tests works."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
import requests

Failed = pytest.fail.Exception


@pytest.mark.parametrize("args", ["true", ["/usr/bin/true"], [b"true"]])
def test_a_program_is_refused(args: str | list[str] | list[bytes]) -> None:
    with pytest.raises(Failed, match="a unit test starts true"):
        subprocess.run(args, check=False)


@pytest.mark.allow_commands("true")
def test_only_the_named_program_is_let_through() -> None:
    assert subprocess.run(["true"], check=False).returncode == 0
    with pytest.raises(Failed, match="starts false"):
        subprocess.run(["false"], check=False)


def test_the_back_doors_are_shut() -> None:
    with pytest.raises(Failed, match="starts 'true'"):
        os.system("true")  # noqa: S605
    with pytest.raises(Failed, match="starts '/bin/true'"):
        os.posix_spawn("/bin/true", ["true"], {})


def test_a_connection_is_refused() -> None:
    with socket.socket() as one, pytest.raises(Failed, match="connects to"):
        one.connect(("127.0.0.1", 9))
    with pytest.raises(Failed, match="looks up 'mirror.invalid'"):
        requests.get("http://mirror.invalid/", timeout=1)

"""Real servers in network namespaces that the tests make: as root, on Linux."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROGRAMS = ("nginx", "dnsmasq", "ip", "curl")


@pytest.fixture(autouse=True, scope="session")
def _possible() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: scripts/setup does it")


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a folder that nginx gets to; pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory(prefix="imgbuild-provision-") as name:
        made = Path(name)
        made.chmod(0o755)
        yield made


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return the folder of a server that serves all tests of a module."""
    with open_folder() as made:
        yield made

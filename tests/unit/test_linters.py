"""Linters and types are tests: what is here is clean, or does not pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.allow_commands("ruff", "mypy")
@pytest.mark.parametrize(
    "words",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "-p", "builder", "-p", "imgnode", "-p", "monitoring", "-p", "tests"],
    ],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_clean(words: list[str]) -> None:
    done = subprocess.run(
        [BIN / words[0], *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"

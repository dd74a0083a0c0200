"""The playbooks are clean: ansible-lint's strictest profile, and yamllint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "words", [["yamllint", "--strict", "."], ["ansible-lint", "--nocolor"]], ids=lambda one: one[0]
)
def test_clean(words: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_HOME": str(tmp_path)}
    done = subprocess.run(
        [BIN / words[0], *words[1:]],
        cwd=ROOT / "fleet",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

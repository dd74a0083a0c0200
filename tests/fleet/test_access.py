"""How nodes are reached, wherever the inventory lies: by keys that were noted, and as admin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.fleet.simulated import ROOT

# Plays ssh: writes down where and with what it was started.
_SSH = """#!{python}
import json, os, sys
with open({told!r}, "a") as stream:
    stream.write(json.dumps([os.getcwd(), sys.argv[1:]]) + "\\n")
sys.exit(255)
"""


def test_a_node_is_reached_as_admin_and_believed_by_known_hosts_alone(tmp_path: Path) -> None:
    home, told = tmp_path / "site", tmp_path / "told"
    home.mkdir()
    program = tmp_path / "ssh"
    program.write_text(_SSH.format(python=sys.executable, told=str(told)))
    program.chmod(0o755)
    own = {"ansible_host": "192.0.2.1", "ansible_ssh_executable": str(program)}
    (home / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"gpu-01": own}}}))
    words = ["-m", "builder.cli.main", "fleet", "status", "--json"]
    where = ["-i", str(home / "inventory.yml"), "--state", str(tmp_path / "state")]
    env = {**os.environ, "IMGBUILD_PROJECT": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words, *where], cwd=ROOT, env=env, capture_output=True, check=False
    )
    assert done.returncode == 1, "the node does not answer"
    assert json.loads(done.stdout)["nodes"][0]["text"].startswith("unreachable: ")
    folder, argv = json.loads(told.read_text().splitlines()[0])
    assert folder == str(home)
    first: dict[str, str] = {}  # of several, ssh takes the first
    for option in (one for one in argv if "=" in one):
        first.setdefault(*option.split("=", 1))
    assert first["StrictHostKeyChecking"] == "yes"
    assert first["UserKnownHostsFile"] == "known_hosts"
    assert first["BatchMode"] == "yes"
    assert first["User"] == '"admin"'

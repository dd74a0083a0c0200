from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.cli.fleet.base import open_fleet
from builder.core.errors import ConfigError, UserError
from builder.fleet import prometheus, proxy, seeds
from builder.fleet.nodes import Node, parse
from builder.seed.check import check_seed

ROOT = Path(__file__).parents[2]
MODEL = "Qwen/Qwen2.5-7B-Instruct"


def node(name: str, **values: Any) -> Node:  # noqa: ANN401
    found = {"ansible_host": "10.0.0.1", "inference": {"model": MODEL}, **values}
    (made,) = parse({"all": {"hosts": [name]}, "_meta": {"hostvars": {name: found}}})
    return made


def test_each_inventory_has_a_state_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGBUILD_PROJECT", str(ROOT))
    sites = [tmp_path / one / "inventory.yml" for one in ("berlin", "paris")]
    states = [open_fleet(one, None).place.state for one in (None, *sites)]
    assert states[0] == ROOT / "out/fleet/inventory"
    assert len(set(states)) == 3
    assert open_fleet(sites[0], tmp_path / "kept").place.state == tmp_path / "kept"


def test_nodes_come_from_ansibles_own_list() -> None:
    listed = {
        "_meta": {"hostvars": {"b": {"rack": "r1", "other": 1}, "a": {"ansible_host": "10.0.0.1"}}},
        "all": {"children": ["chat"]},
        "chat": {"hosts": ["b", "a"]},
    }
    first, second = parse(listed)
    assert (first.name, first.address, second.address, second.rack) == ("a", "10.0.0.1", "b", "r1")


def test_all_that_is_wrong_with_variables_is_told_at_once() -> None:
    listed = {"all": {"hosts": ["a"]}, "_meta": {"hostvars": {"a": {"rack": 1, "inference": []}}}}
    with pytest.raises(ConfigError) as caught:
        parse(listed)
    assert "inventory: a: rack:" in str(caught.value)
    assert "inventory: a: inference:" in str(caught.value)


def test_a_seed_is_what_seed_check_takes() -> None:
    text = seeds.render(node("gpu-01", seed={"ssh_authorized_keys": ["ssh-ed25519 AAAA you"]}))
    report = check_seed(text.encode(), None, {})
    assert report.problems == ()
    assert report.config is not None
    assert (report.hostname, report.config.model) == ("gpu-01", MODEL)


def test_a_template_is_no_value_of_a_seed() -> None:
    wrong = node("a", seed={"write_files": [{"path": "/x", "content": "{{ secret }}"}]})
    (problem,) = seeds.problems(wrong)
    assert problem.startswith("a: seed.write_files[0].content: is a template")
    assert seeds.problems(node("a", seed={"inference": {}}))


def test_a_seed_that_is_the_same_is_left_alone(tmp_path: Path) -> None:
    assert seeds.write(tmp_path, "a", "x\n")
    assert not seeds.write(tmp_path, "a", "x\n")
    path = tmp_path / "a/user-data"
    assert path.stat().st_mode & 0o777 == 0o600
    assert seeds.write(tmp_path, "a", "y\n")


def test_targets_of_both_jobs_meet_in_the_name() -> None:
    (row,) = json.loads(prometheus.targets([node("a", rack="r1")], "imgnode"))
    assert row == {
        "targets": ["10.0.0.1:9101"],
        "labels": {"instance": "a", "rack": "r1", "model": MODEL},
    }
    (row,) = json.loads(prometheus.targets([node("a", ansible_host="fd00::1")], "node"))
    assert row["targets"] == ["[fd00::1]:9100"]


def made(*nodes: Node) -> str:
    return proxy.haproxy(
        nodes, source="inventory.yml", listen="127.0.0.1", port=8000, state_port=8404
    )


def test_each_model_has_a_port_over_the_nodes_that_serve_it() -> None:
    other = node("c", inference={"model": "Org/Other", "served_name": "chat"})
    text = made(node("a"), node("b"), other, node("idle", inference={}))
    assert "bind 127.0.0.1:8000\n" in text
    assert text.index("server a") < text.index("server b") < text.index("listen chat")
    assert "idle" not in text


def test_a_proxy_for_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no node serves"):
        made(node("a", inference={}))
    with pytest.raises(UserError, match="cannot stand"):
        made(node("a", ansible_host="10.0.0.1 backup\nserver x"))


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")
@pytest.mark.allow_commands("haproxy")
def test_haproxy_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    twin = node("c", inference={"model": "Qwen-Qwen2.5-7B-Instruct"})  # the same label
    path.write_text(made(node("a"), node("b", ansible_host="10.0.0.2"), twin))
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr

"""What `apply` does to a node in every state: files, mounts, Docker's store, metrics, words."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from imgnode.layers import heal as heal_module
from imgnode.layers.heal import heal
from imgnode.layers.mounts import place
from imgnode.layers.overlay2 import REFERENCES, cache_id
from imgnode.layers.report import Report, State, tell
from tests.unit.layers_node import Node, container, content, layer_file, payload, play


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return play(tmp_path, monkeypatch)


def states(report: Report) -> list[str]:
    return [str(one.state) for one in report.outcomes]


def words(report: Report) -> list[str]:
    return [str(problem) for problem in report.problems]


def metric(node: Node, name: str) -> float:
    lines = node.text("run/imgnode/metrics/layers.prom").splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def seeded(node: Node) -> bool:
    return (node.docker / REFERENCES).exists()


def test_a_good_node(node: Node) -> None:
    node.set(payload(2, "org/small"))
    node.have("part0", "part1", "org/small")
    report = node.apply()
    assert report.good
    assert states(report) == ["mounted"] * 3
    assert [one.what for one in report.outcomes] == ["part0", "part1", "org/small"]
    assert report.notes == (
        "docker has imgnode/vllm:2026.1 (19 entries written)",
        "3 files, 3 mounted",
    )
    assert str(place(node.file("org/small").root_hash, node.root)) in node.mounted
    assert metric(node, "imgnode_layer_files") == 3
    assert metric(node, "imgnode_layers_missing") == metric(node, "imgnode_layers_corrupt") == 0
    assert metric(node, "imgnode_layer_bytes") == pytest.approx(3 * 12288)
    assert node.count("curl") == 0


def test_again_it_does_nothing(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    node.asked.clear()
    report = node.apply()
    assert report.notes[0] == "docker has imgnode/vllm:2026.1 (0 entries written)"
    assert {Path(argv[0]).name for argv in node.asked} == {"dmsetup", "lsblk"}
    assert node.count("dmsetup") == 1


def test_a_link_leads_into_the_mounted_layer(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    found = node.payload().container
    assert found is not None
    for layer in found.layers:
        diff = node.docker / "overlay2" / cache_id(layer) / "diff"
        assert str(diff.readlink()) in node.mounted


def test_a_missing_layer_is_fetched(node: Node) -> None:
    node.have("part0")
    node.serve("part1")
    assert node.apply().good
    assert node.path("part1").read_bytes() == content("part1")


def test_one_missing_layer_costs_the_container_and_nothing_else(node: Node) -> None:
    node.set(payload(3, "org/small"))
    node.have("part0", "part2", "org/small")
    report = node.apply()
    assert states(report) == ["mounted", "missing", "mounted", "mounted"]
    first, second = words(report)
    assert first.startswith(f"layer part1 ({node.file('part1').root_hash[:12]}): is not in ")
    assert "(hint: mend the way to the server, or copy" in first
    assert second.startswith("docker: imgnode/vllm:2026.1 is not seeded, for want of: part1 ")
    assert list(node.docker.rglob("*")) == []
    assert metric(node, "imgnode_layers_missing") == 1
    assert metric(node, "imgnode_layers_corrupt") == 0


def test_a_missing_model_does_not_cost_the_container(node: Node) -> None:
    node.set(payload(2, "org/small"))
    node.have("part0", "part1")
    report = node.apply()
    assert states(report) == ["mounted", "mounted", "missing"]
    assert len(report.problems) == 1
    assert seeded(node)


def test_a_layer_that_the_list_of_files_forgot(node: Node) -> None:
    node.set(payload(2, files=[layer_file("part0")]))
    node.have("part0")
    assert "for want of: part1" in words(node.apply())[0]
    assert not seeded(node)


def test_an_image_that_does_not_fit_itself_is_never_seeded(node: Node) -> None:
    node.set(payload(2, container=container(2, image_id="0" * 64)))
    node.have("part0", "part1")
    report = node.apply()
    assert states(report) == ["mounted", "mounted"]
    assert "not the one that its ID names" in words(report)[0]
    assert list(node.docker.rglob("*")) == []


@pytest.mark.parametrize("size", [0, 100, 99999])
def test_a_file_of_the_wrong_size_is_replaced(node: Node, size: int) -> None:
    node.have("part0", "part1")
    node.serve("part1")
    node.path("part1").write_bytes(b"x" * size)
    assert node.apply().good
    assert node.path("part1").read_bytes() == content("part1")
    assert list((node.store / "bad").iterdir()) == []
    assert node.count("systemd-veritysetup") == 2


def test_what_is_not_a_file_is_set_aside(node: Node, tmp_path: Path) -> None:
    node.have("part0")
    node.serve("part1")
    node.path("part1").symlink_to(tmp_path / "nowhere")
    assert node.apply().good
    assert not node.path("part1").is_symlink()


def test_a_damaged_file_that_cannot_be_fetched_stays_told(node: Node) -> None:
    node.have("part0", "part1")
    node.path("part1").write_bytes(b"x" * 12288)
    report = node.apply()
    assert states(report) == ["mounted", "corrupt"]
    assert not node.path("part1").exists()
    assert (node.store / "bad" / node.file("part1").name).exists()
    assert metric(node, "imgnode_layers_corrupt") == 1
    assert metric(node, "imgnode_layers_missing") == 0
    assert states(node.apply()) == ["mounted", "corrupt"]
    assert not seeded(node)
    node.serve("part1")
    assert node.apply().good
    assert list((node.store / "bad").iterdir()) == []
    assert seeded(node)


def test_a_refused_file_that_is_whole_is_not_thrown_away(node: Node) -> None:
    node.have("part0", "part1")
    node.refused.add(f"imgnode-{node.file('part0').root_hash[:16]}")
    report = node.apply()
    assert states(report) == ["not mounted", "mounted"]
    assert "its bytes are right, but it cannot be opened: Failed to load verity" in words(report)[0]
    assert node.path("part0").exists()
    assert node.count("curl") == 0
    assert metric(node, "imgnode_layers_missing") == 1


def test_a_bad_block_met_while_it_ran(node: Node) -> None:
    node.have("part0", "part1")
    node.serve("part0")
    node.apply()
    node.damage("part0")
    report = node.apply()
    assert report.good
    assert node.path("part0").read_bytes() == content("part0")
    assert len(node.mounted) == len(node.open) == 2


def test_a_bad_block_and_no_good_file_leaves_the_mount(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    node.damage("part0")
    for _ in range(2):
        assert states(node.apply()) == ["corrupt", "mounted"]
    assert len(node.mounted) == 2
    node.serve("part0")
    assert node.apply().good


def test_a_bad_block_under_a_running_container(node: Node) -> None:
    """The overlay holds the device; the mount must be there again for whoever comes next."""
    node.have("part0", "part1")
    node.serve("part0")
    node.apply()
    device = f"imgnode-{node.file('part0').root_hash[:16]}"
    node.in_use.add(device)
    node.damage("part0")
    report = node.apply()
    assert states(report) == ["corrupt", "mounted"]
    assert "its file is good now, but what is mounted of it is in use: Device is busy" in str(
        report.problems[0]
    )
    assert "stop the containers, then: imgnode layers apply; or reboot" in words(report)[0]
    assert node.path("part0").read_bytes() == content("part0")
    assert len(node.mounted) == 2
    node.in_use.clear()
    assert node.apply().good


def test_a_mounted_file_that_has_gone_is_fetched_for_the_next_boot(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    node.path("part0").unlink()
    report = node.apply()
    assert states(report) == ["mounted", "mounted"]
    assert "is not in" in words(report)[0]
    assert len(node.mounted) == 2
    node.serve("part0")
    assert node.apply().good
    assert node.path("part0").exists()


def test_a_full_disk_costs_one_file(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/var/lib/imgnode/layers/.part")

    node.have("part0")
    node.serve("part1")
    monkeypatch.setattr("imgnode.layers.store.Store.adopt", full)
    report = node.apply()
    assert states(report) == ["mounted", "not mounted"]
    assert "/var/lib/imgnode/layers/.part: No space left on device" in words(report)[0]


def test_docker_is_made_anew_before_anything_else(node: Node) -> None:
    """Were the fetching cut short, Docker must not find the store of the boot before."""
    node.write("var/lib/docker/image/old", "x")
    node.curl = lambda *_: pytest.fail("stopped here")
    node.have("part0")
    node.serve("part1")
    with pytest.raises(pytest.fail.Exception):
        node.apply()
    assert list(node.docker.iterdir()) == []


def test_a_second_boot_is_like_the_first(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    node.write("var/lib/docker/containers/x/config.v2.json", "{}")
    node.reboot()
    report = node.apply()
    assert report.good
    assert report.notes[0].endswith("(19 entries written)")
    assert not (node.docker / "containers").exists()


def test_a_running_dockerd_is_told_to_look_again(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    (node.docker / REFERENCES).unlink()
    node.write("proc/7/comm", "dockerd\n")
    report = node.apply()
    assert report.good
    assert "systemctl restart docker" in report.notes[1]


def test_an_image_with_nothing_outside(node: Node) -> None:
    node.set(payload(0))
    assert node.apply() == Report()
    assert metric(node, "imgnode_layer_files") == 0
    assert not node.store.exists()


def test_a_damaged_list_still_makes_docker_anew(node: Node) -> None:
    node.write("var/lib/docker/old", "x")
    node.set({"schema_version": 9})
    (problem,) = node.apply().problems
    assert "schema_version 9" in problem.fact
    assert list(node.docker.iterdir()) == []
    node.set({"schema_version": 1})
    assert len(node.apply().problems) == 1


def test_runs_wait_for_each_other(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.have("part0", "part1")
    taken = []
    monkeypatch.setattr(fcntl, "flock", lambda _, how: taken.append(how))
    node.apply()
    assert taken == [fcntl.LOCK_EX]


def test_how_it_is_told(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = node.apply()
    tell(report)
    told = capsys.readouterr()
    assert told.out == "layers: 2 files, 0 mounted\n"
    assert [line[:8] for line in told.err.splitlines()] == ["layers: "] * 3
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    tell(report)
    assert [line[:11] for line in capsys.readouterr().err.splitlines()] == ["<3>layers: "] * 3
    assert report.count(State.MISSING) == 2


def test_the_metrics_are_complete(node: Node) -> None:
    node.apply()
    text = node.text("run/imgnode/metrics/layers.prom")
    for name in ("layer_files", "layers_missing", "layers_corrupt", "layer_bytes"):
        assert f"# TYPE imgnode_{name} gauge\nimgnode_{name} " in text


def test_healing_stops_docker_first_and_starts_it_whatever_happens(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.have("part0", "part1")
    assert heal(node.root).good
    assert node.asked[0] == ["systemctl", "stop", "docker.socket", "docker.service"]
    assert node.asked[-1] == ["systemctl", "start", "docker.service"]

    def broken(_: Path) -> Report:
        raise OSError(28, "full")

    node.asked.clear()
    monkeypatch.setattr(heal_module, "apply", broken)
    with pytest.raises(OSError, match="full"):
        heal(node.root)
    assert node.asked[-1] == ["systemctl", "start", "docker.service"]


def test_the_versions_list_is_written(node: Node) -> None:
    node.have("part0", "part1")
    node.apply()
    text = node.text("var/lib/imgnode/layers/versions/imgbuild-test_2026.1.json")
    assert json.loads(text) == {"files": sorted(one.name for one in node.payload().files)}

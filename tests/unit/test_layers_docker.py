"""Docker's store on the disk: made anew once per boot, mended after, never through links."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imgnode.layers import dockerstore
from imgnode.layers.overlay2 import REFERENCES, cache_id, plan
from tests.unit.layers_node import Node, image, play


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return play(tmp_path, monkeypatch)


def tree(folder: Path) -> dict[str, object]:
    """Return each path below a folder with its inode: what was not touched is equal."""
    return {str(path): path.lstat().st_ino for path in folder.rglob("*")}


def test_seeding_writes_everything_once(node: Node) -> None:
    one = image(3)
    count = len(plan(one, Path("/"))) + 1
    assert dockerstore.seed(one, node.root) == count
    before = tree(node.docker)
    assert dockerstore.seed(one, node.root) == 0
    assert tree(node.docker) == before
    top = node.docker / "overlay2" / cache_id(one.layers[2])
    target = node.root / "run/imgnode/layers" / one.layers[2].root_hash
    assert (top / "diff").readlink() == target
    assert (top / "lower").read_text().count("l/") == 2


def test_everything_is_roots_alone(node: Node) -> None:
    dockerstore.seed(image(2), node.root)
    for path in [node.docker, *node.docker.rglob("*")]:
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_what_lacks_or_differs_is_mended_and_the_rest_left(node: Node) -> None:
    one = image(2)
    dockerstore.seed(one, node.root)
    top = node.docker / "overlay2" / cache_id(one.layers[1])
    before = tree(node.docker)
    (top / "lower").write_text("l/WRONG")
    (top / "diff").unlink()
    (top / "diff").mkdir()
    (top / "diff/file").touch()
    (top / "work").rmdir()
    (node.docker / REFERENCES).unlink()
    assert dockerstore.seed(one, node.root) == 4
    assert (top / "diff").is_symlink()
    assert dockerstore.seed(one, node.root) == 0
    changed = {path for path, inode in tree(node.docker).items() if before.get(path) != inode}
    assert not any("layerdb" in path or "imagedb" in path for path in changed)


def test_mending_keeps_what_others_wrote(node: Node) -> None:
    dockerstore.seed(image(1), node.root)
    (node.docker / "containers/mine").mkdir(parents=True)
    names = json.loads((node.docker / REFERENCES).read_text())
    names["Repositories"]["other"] = {"other:1": "sha256:1"}
    (node.docker / REFERENCES).write_text(json.dumps(names))
    assert dockerstore.seed(image(2), node.root) > 0
    assert (node.docker / "containers/mine").is_dir()
    assert "other" in json.loads((node.docker / REFERENCES).read_text())["Repositories"]


def test_a_wrong_image_writes_nothing(node: Node) -> None:
    with pytest.raises(ValueError, match="ID names"):
        dockerstore.seed(image(2, image_id="0" * 64), node.root)
    assert not node.docker.exists()


def fill(node: Node) -> None:
    for home in ("docker", "containerd"):
        node.write(f"var/lib/{home}/overlay2/x/diff/etc/file", "x")
        node.write(f"var/lib/{home}/engine-id", "x")


def test_the_first_run_of_a_boot_makes_the_store_anew(node: Node) -> None:
    fill(node)
    assert dockerstore.renew(node.root) == []
    assert list(node.docker.iterdir()) == []
    assert list((node.root / "var/lib/containerd").iterdir()) == []


def test_later_runs_leave_it(node: Node) -> None:
    dockerstore.renew(node.root)
    fill(node)
    before = tree(node.docker)
    assert dockerstore.renew(node.root) == []
    assert tree(node.docker) == before
    node.reboot()
    dockerstore.renew(node.root)
    assert tree(node.docker) == {}


def test_links_are_removed_and_never_followed(node: Node, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    node.write("precious/file", "x")
    fill(node)
    (node.docker / "link").symlink_to(precious)
    (node.docker / "overlay2/x/diff/deep").symlink_to(precious)
    (node.docker / ".imgnode-old").symlink_to(precious)
    containerd = node.root / "var/lib/containerd"
    containerd.rename(node.root / "var/lib/elsewhere")
    containerd.symlink_to("elsewhere")
    assert dockerstore.renew(node.root) == []
    assert list(node.docker.iterdir()) == []
    assert not os.path.lexists(containerd)
    assert (precious / "file").read_text() == "x"
    assert (node.root / "var/lib/elsewhere/engine-id").exists()


def test_what_is_mounted_stays_and_is_told(node: Node) -> None:
    fill(node)
    point = node.docker / "overlay2/x/merged"
    point.mkdir()
    node.mount_below(point)
    (problem,) = dockerstore.renew(node.root)
    assert "overlay2 stays: something is mounted there" in str(problem)
    assert (node.docker / "overlay2/x/diff/etc/file").exists()
    assert not (node.docker / "engine-id").exists()


def test_a_store_on_a_disk_of_its_own_is_emptied_too(node: Node) -> None:
    fill(node)
    node.mount_below(node.docker)
    assert dockerstore.renew(node.root) == []
    assert list(node.docker.iterdir()) == []


def test_a_removal_that_the_power_cut_is_taken_up(node: Node) -> None:
    fill(node)
    node.write("var/lib/docker/.imgnode-old/0/half", "x")
    node.write("var/lib/docker/.imgnode-old/2", "x")
    dockerstore.renew(node.root)
    assert list(node.docker.iterdir()) == []


def test_a_running_daemon_keeps_its_store(node: Node) -> None:
    fill(node)
    node.write("proc/77/comm", "dockerd\n")
    node.write("proc/78/comm", "sh\n")
    (problem,) = dockerstore.renew(node.root)
    assert "dockerd ran before this boot's first run" in problem.fact
    assert problem.hint is not None
    assert "systemctl stop docker.socket docker.service" in problem.hint
    assert (node.docker / "engine-id").exists()
    (node.root / "proc/77/comm").unlink()
    assert dockerstore.renew(node.root) == []
    assert not (node.docker / "engine-id").exists()

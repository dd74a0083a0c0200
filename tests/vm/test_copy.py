"""A node whose Docker takes no seeded layers: it serves from a copy, and says so. One node.

Docker has another storage driver there; the container is the small box with a stand-in server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from builder.core.files import remove_tree
from builder.vm.session import VmNode
from tests.build.boxed import add_node
from tests.build.command import Place, copy_project
from tests.vm.conftest import FOLDER, ROOT, Image
from tests.vm.test_serving import container, sudo, wait_serving

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(1800)]

NODE_SEED = "#cloud-config\nhostname: gpu-07\ninference:\n  model: org/toy\n"
DAEMON = "overlays/container/etc/docker/daemon.json.j2"
WHY = "does not take the seeded layers: it loads a copy"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the box as a node, with the checkout's cache."""
    place = Place(tmp_path_factory.mktemp("copy"))
    copy_project(ROOT, place.project, link=False)
    add_node(place)
    place.write(DAEMON, (ROOT / DAEMON).read_text().replace('"overlay2"', '"vfs"'))
    try:
        place.build("boxed", env={"IMGBUILD_CACHE": str(FOLDER.parent)}).done()
        yield Image(place.out)
    finally:
        remove_tree(place.top)


def told(node: VmNode) -> int:
    """Return how often the journal tells of a copy, as a warning."""
    return sudo(node, "journalctl -b -u vllm -p warning -o cat --no-pager").count(WHY)


def test_it_serves_from_a_copy_and_says_so(node: VmNode) -> None:
    began = time.monotonic()
    wait_serving(node)
    print(f"serving after {time.monotonic() - began:.0f} s")
    print(sudo(node, "journalctl -b -u vllm -o short-monotonic --no-pager"))
    assert told(node) == 1
    status = json.loads(sudo(node, "imgnode status --json"))["serve"]
    assert (status["state"], status["image_copied"]) == ("serving", True)
    assert status["starts_failed"] == 0
    assert "COPY: Docker takes no seeded layers" in sudo(node, "imgnode status")
    copy = container(node)["Image"]
    shown = sudo(node, "imgnode serve show")
    assert shown.startswith("# Docker's own copy of imgnode/box@sha256:")
    assert copy in shown
    assert sudo(node, "docker images --format={{.Repository}}").split() == ["imgnode/copy"]
    assert "/run/imgnode/merged" not in sudo(node, "cat /proc/mounts")


def test_a_restart_makes_no_second_copy(node: VmNode) -> None:
    before = container(node)
    sudo(node, "systemctl restart vllm")  # returns once it serves again
    after = container(node)
    assert after["Id"] != before["Id"]
    assert after["Image"] == before["Image"]
    assert told(node) == 1

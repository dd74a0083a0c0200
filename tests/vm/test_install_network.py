"""An installer without a stick asks a server what to do, and takes everything from it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from builder.core.process import Runner
from builder.vm.gpt import partitions
from builder.vm.qemu import Accel, HostService
from tests.vm.installing import (
    GIB,
    INSTALL_S,
    VERSION,
    Workshop,
    asking,
    bench,
    blank,
    open_workshop,
)
from tests.vm.releases import Releases
from tests.vm.versions import SERVER

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(3600)]
SEED = {"user-data": "#cloud-config\nhostname: gpu-09\n", "meta-data": "instance-id: i\n"}


@pytest.fixture(scope="module")
def workshop(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(runner, tmp_path_factory.mktemp("versions")) as made:
        yield made


def test_order_and_release_come_over_the_network(
    runner: Runner, workshop: Workshop, accel: Accel
) -> None:
    top, repository = workshop.versions.place.top, workshop.versions.repository
    order = {
        "releases": f"http://{SERVER}",
        "image_id": "imgbuild-bare",
        "disk": "largest",
        "seed": SEED,
        "then": "poweroff",
    }
    (repository / "order.json").write_text(json.dumps(order))
    installer = asking(workshop, f"http://{SERVER}/order.json")
    disk = blank(top / "target.raw", 6 * GIB)
    with Releases(repository) as releases:
        services = (HostService(SERVER, 80, releases.port),)
        words = ("-kernel", str(installer))  # as firmware does that loads it over the network
        with bench(runner, workshop, accel, disk, words, services) as made:
            ended = made.machine.wait_for(r"install: (done|failed).*", INSTALL_S)
            assert ended.text.strip().endswith(f"done: {VERSION}"), ended.text
            made.machine.wait_exit(INSTALL_S)
    asked = [one.path for one in releases.requests]
    assert "mac=52%3A54%3A00%3A12%3A34%3A56" in asked[0], asked
    assert any(path.endswith("root.erofs.zst") for path in asked)
    names = [one.name for one in partitions(runner, disk)]
    assert names[1:3] == [f"imgbuild-bare_{VERSION}"] * 2
    cidata = next(one for one in partitions(runner, disk) if one.name == "cidata")
    place = f"{disk}@@{cidata.offset}"
    assert runner.run(["mtype", "-i", place, "::user-data"]).stdout == SEED["user-data"]

"""The layer store on a node that reaches nothing but a release server: what Docker forgets,
what the disk loses and what a power cut stops all comes back. One node, in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from imgnode.payload import ContainerImage, LayerFile, Payload, parse_payload
from tests.build.command import Place, copy_project
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, SEED, Image, built, keep_if_failed, wait_settled
from tests.vm.releases import Releases
from tests.vm.test_damage import slot

pytestmark = pytest.mark.vm

SERVER = "10.0.2.100"
STORE = "/var/lib/imgnode/layers"
BLOCK = 4096
DOCKER_MAX = 6_000_000  # bytes of its store: links and lists, no layers
COMMAND_S = 180.0
HEAL = "sudo imgnode layers apply && sudo systemctl restart docker"
SLOW = 5_000_000  # bytes per second
ENOUGH = 20_000_000  # bytes of a file that count as half of it
OTHER, GONE = "imgbuild-cpu_2099", "imgbuild-cpu_2001"  # in slot B, and in none


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build profile cpu for a site with a release server, with the checkout's cache and lock."""
    built("cpu")
    place = Place(tmp_path_factory.mktemp("released"))
    copy_project(ROOT, place.project, link=True)
    site = place.project / "config/sites/debian.yaml"
    site.write_text(f"{site.read_text()}releases: http://{SERVER}\n")
    try:
        place.build("cpu", "--locked", env={"IMGBUILD_CACHE": str(FOLDER.parent)}).done()
        yield Image(place.out)
    finally:
        remove_tree(place.top)


@pytest.fixture(scope="module")
def payload(image: Image) -> Payload:
    return parse_payload(json.loads((image.folder / "manifest.json").read_text())["payload"])


@pytest.fixture(scope="module")
def container(payload: Payload) -> ContainerImage:
    assert payload.container
    return payload.container


@pytest.fixture(scope="module")
def releases(image: Image) -> Iterator[Releases]:
    with Releases(image.folder) as server:
        yield server


@pytest.fixture(scope="module")
def node(
    request: pytest.FixtureRequest, runner: Runner, image: Image, accel: Accel, releases: Releases
) -> Iterator[VmNode]:
    """Give a node that reaches the release server alone."""
    services = (HostService(SERVER, 80, releases.port),)
    with start_node(
        runner, image.disk, SEED, FOLDER, accel=accel, size=VmSize(), services=services
    ) as started:
        yield started
        keep_if_failed(request, started)


def say(node: VmNode, command: str) -> str:
    """Return what a command prints that must succeed."""
    done = node.ssh.run(command, COMMAND_S)
    assert done.rc == 0, f"{command}: {done.rc}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def states(node: VmNode) -> dict[str, str]:
    """Return the state of each file by its name."""
    told = json.loads(say(node, "sudo imgnode layers status --json"))["files"]
    return {f"{one['root_hash']}.erofs": one["state"] for one in told}


def images(node: VmNode) -> str:
    wanted = "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}"
    return say(node, f"sudo docker images --digests --no-trunc --format '{wanted}'")


def listed(container: ContainerImage) -> str:
    """Return the one line that `images` should give."""
    name = f"{container.repository}:{container.tag}"
    return f"{name} sha256:{container.digest} sha256:{container.image_id}"


def runs(node: VmNode, container: ContainerImage) -> None:
    """Assert that a container starts, with nothing pulled."""
    options = "--rm --network none --pull never --entrypoint /usr/bin/python3"
    run = f"sudo docker run {options} {container.reference} -c 'print(1)'"
    assert say(node, run) == "1"


def whole(node: VmNode, payload: Payload, container: ContainerImage) -> None:
    """Assert that every file is there and mounted, Docker has the image, and nothing failed."""
    assert states(node) == {file.name: "mounted" for file in payload.files}
    assert images(node) == listed(container)
    assert say(node, "systemctl --failed --no-legend --plain") == ""
    assert int(say(node, "sudo du -sx --block-size=1 /var/lib/docker").split()[0]) <= DOCKER_MAX


def layer(payload: Payload, container: ContainerImage, title: str) -> LayerFile:
    """Return the file of a layer by its title."""
    root_hash = next(one.root_hash for one in container.layers if one.title == title)
    return next(file for file in payload.files if file.root_hash == root_hash)


def test_the_first_boot_has_the_container_without_any_network(
    up: VmNode, payload: Payload, container: ContainerImage, releases: Releases
) -> None:
    assert up.machine.config.restrict_network
    whole(up, payload, container)
    runs(up, container)
    assert releases.requests == []


@pytest.mark.parametrize(
    "forget",
    [
        "sudo docker system prune --all --force",
        "sudo docker rmi --force {}",
        "sudo systemctl stop docker.socket docker; sudo rm -rf /var/lib/docker",
    ],
    ids=["prune", "rmi", "rm"],
)
def test_what_docker_forgets_comes_back(
    up: VmNode, container: ContainerImage, releases: Releases, forget: str
) -> None:
    say(up, forget.format(container.image_id))
    lost = 'sudo test ! -e /var/lib/docker || test -z "$(sudo docker images --quiet)"'
    say(up, lost)
    say(up, HEAL)
    assert images(up) == listed(container)
    runs(up, container)
    assert releases.requests == []


def test_a_damaged_block_is_refused_and_its_file_fetched_again(
    up: VmNode, payload: Payload, container: ContainerImage, releases: Releases
) -> None:
    file = layer(payload, container, "os")
    block = file.data_bytes // BLOCK // 2
    device = f"/dev/mapper/imgnode-{file.root_hash[:16]}"
    read = f"sudo dd if={device} bs={BLOCK} skip={block} count=1 iflag=direct | sha256sum"
    good = say(up, read)
    write = f"sudo dd of={STORE}/{file.name} bs={BLOCK} seek={block} conv=notrunc,fsync"
    say(up, f"head -c {BLOCK} /dev/urandom | {write}")
    say(up, "echo 3 | sudo tee /proc/sys/vm/drop_caches")
    bad = up.ssh.run(read, COMMAND_S)
    assert "Input/output error" in bad.stderr
    assert f"data block {block} is corrupted" in say(up, "sudo dmesg | grep 'data block'")
    others = {one.name: "mounted" for one in payload.files}
    assert states(up) == {**others, file.name: "corrupt"}
    say(up, "sudo imgnode layers apply")
    assert releases.asked_since(0) == [(file.name, 0, HTTPStatus.OK, file.bytes)]
    assert say(up, read) == good
    assert say(up, f"sudo ls -A {STORE}/bad {STORE}/.part").split() == [
        f"{STORE}/.part:",
        f"{STORE}/bad:",
    ]
    whole(up, payload, container)


@pytest.fixture(scope="module")
def rebooted(
    up: VmNode, payload: Payload, container: ContainerImage, releases: Releases, runner: Runner
) -> int:
    """Boot again after a layer file was deleted, and with lists of two other versions.

    Gives the number of requests that the server had seen before. The version in slot B shares
    a layer file with the running one; so does one that is not installed.
    """
    say(up, f"sudo docker create --name left {container.reference}")
    shared = layer(payload, container, "vllm").name
    for number, stem in enumerate((OTHER, GONE)):
        own = f"{number}" * 64 + ".erofs"
        text = json.dumps({"files": [shared, own]})
        say(up, f"echo '{text}' | sudo tee {STORE}/versions/{stem}.json")
        say(up, f"echo {stem} | sudo tee {STORE}/{own}")
    say(up, f"sudo rm {STORE}/{layer(payload, container, 'os').name}")
    before = len(releases.requests)
    up.machine.poweroff(BOOT_S)
    for number in (4, 5):
        part = slot(runner, up.disk, number)
        runner.run(["sfdisk", "--quiet", "--part-label", up.disk, str(part.number), OTHER])
    since = up.machine.start()
    up.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(up)
    return before


def test_the_second_boot_is_like_the_first_with_what_was_missing_fetched(
    up: VmNode, payload: Payload, container: ContainerImage, releases: Releases, rebooted: int
) -> None:
    file = layer(payload, container, "os")
    assert releases.asked_since(rebooted) == [(file.name, 0, HTTPStatus.OK, file.bytes)]
    whole(up, payload, container)
    assert say(up, "sudo docker ps --all --quiet") == ""
    runs(up, container)


@pytest.mark.usefixtures("rebooted")
def test_only_files_that_no_installed_version_names_went(
    up: VmNode, payload: Payload, image: Image
) -> None:
    """Each shared file is one file, and stays for both."""
    kept = {file.name for file in payload.files} | {"0" * 64 + ".erofs"}
    assert set(say(up, f"cd {STORE}; ls *.erofs").split()) == kept
    facts = json.loads((image.folder / "manifest.json").read_text())
    stem = f"{facts['image_id']}_{facts['version']}"
    assert set(say(up, f"ls {STORE}/versions").split()) == {f"{stem}.json", f"{OTHER}.json"}
    assert say(up, "sudo imgnode layers gc") == "nothing to remove"


@pytest.fixture(scope="module")
def cut(
    up: VmNode,
    payload: Payload,
    container: ContainerImage,
    releases: Releases,
    rebooted: int,  # noqa: ARG001
) -> LayerFile:
    """Cut the power while a layer file is fetched; give the file. The server is down after it."""
    file = layer(payload, container, "vllm")
    seen = len(releases.requests)
    releases.rate = SLOW
    say(up, f"sudo rm {STORE}/{file.name}")
    say(up, "sudo systemctl restart --no-block imgnode-layers")
    wait_bytes(up, file, ENOUGH)
    say(up, "sync")  # as the kernel does by itself half a minute later
    up.machine.power_cut()
    (asked,) = releases.asked_since(seen)
    assert asked[:3] == (file.name, 0, HTTPStatus.OK)
    assert asked[3] < file.bytes
    releases.down()
    return file


def wait_bytes(node: VmNode, file: LayerFile, count: int) -> None:
    """Wait until so many bytes of a file have been fetched."""
    deadline = time.monotonic() + COMMAND_S
    while time.monotonic() < deadline:
        size = node.ssh.run(f"stat -c %s {STORE}/.part/{file.name}").stdout
        if int(size or 0) >= count:
            return
        time.sleep(1)
    raise AssertionError(f"{file.name}: no {count} bytes in {COMMAND_S:g} s")


def test_a_power_cut_while_fetching_leaves_only_good_files(
    up: VmNode, payload: Payload, container: ContainerImage, releases: Releases, cut: LayerFile
) -> None:
    """With the server down the node comes up and says what it lacks; then it goes on."""
    since = up.machine.start()
    up.ssh.wait_ready(BOOT_S)
    say(up, "sudo imgnode recover pause")  # else it starts the service anew, once it has failed
    good = {file.name: file.sha256 for file in payload.files if file != cut}
    sums = say(up, f"cd {STORE}; sha256sum {' '.join(good)}").split()
    assert dict(zip(sums[1::2], sums[::2], strict=True)) == good
    part = int(say(up, f"stat -c %s {STORE}/.part/{cut.name}"))
    assert ENOUGH <= part < cut.bytes

    lack = f"layer vllm .{cut.root_hash[:12]}.: is not in {STORE} and cannot be fetched from"
    address = f"http://{SERVER}/layers/{cut.name}"
    up.machine.wait_for(f"{lack} {address}", BOOT_S, since=since)
    wait_settled(up)
    failed = say(up, "systemctl --failed --no-legend --plain").splitlines()
    assert [line.split()[0] for line in failed] == ["imgnode-layers.service"]
    others = {file.name: "mounted" for file in payload.files}
    assert states(up) == {**others, cut.name: "missing"}
    assert images(up) == ""

    seen, releases.rate = len(releases.requests), None
    releases.up()
    say(up, "sudo systemctl restart imgnode-layers docker")
    assert releases.asked_since(seen) == [
        (cut.name, part, HTTPStatus.PARTIAL_CONTENT, cut.bytes - part)
    ]
    whole(up, payload, container)
    runs(up, container)

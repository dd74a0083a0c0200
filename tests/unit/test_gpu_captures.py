"""Recorded answers of real drivers still read, and judge as sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from builder.core.paths import Project
from builder.resolve.profiles import load_profile
from imgnode.gpu.compare import compare
from imgnode.gpu.inventory import MigDevice
from imgnode.gpu.placement import place
from imgnode.gpu.profile import GpuProfile, read_profile
from tests.gpu.captures import FOLDER, load, record
from tests.unit.gpu_node import A100, gpu, inventory
from tests.unit.serve_node import put

PROJECT = Project(Path(__file__).parents[2])


def test_a_recorded_answer_reads_back_without_serials(tmp_path: Path) -> None:
    part = MigDevice("MIG-4be1", "3g.40gb", 1, 0)
    found = inventory(gpu(0, uuid="GPU-5c89852c"), gpu(1, mig=True, mig_devices=(part,)))
    path = record(found, {"by": "a test"}, tmp_path)
    assert path.name == "2x-nvidia-a100-sxm4-80gb-535.309.01.json"
    assert "5c89852c" not in path.read_text()
    assert "4be1" not in path.read_text()
    read = load(path)
    assert read.origin == {"by": "a test"}
    assert [one.address for one in read.inventory.devices] == ["0000:00:00.0", "0000:01:00.0"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(ValueError, match="format 2 is not known"):
        load(path)


def test_every_capture(tmp_path: Path) -> None:
    """The fake's A100 stands in where nothing has been recorded yet."""
    fake = record(inventory(), {"by": "the fake"}, tmp_path)
    for path in [fake, *sorted(FOLDER.glob("*.json"))]:
        capture = load(path)
        assert capture.origin, path
        found = capture.inventory
        names = tuple({one.name or "" for one in found.devices})
        profile = replace(A100, names=names, count=found.count, memory=None, nvlink=False)
        profile = replace(profile, driver_version=None, persistence=False)
        assert compare(profile, found, fabric=None).faults == (), path
        assert place(found, len(found.usable)).cpus is None


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_real_gpu_is_what_the_shipped_profile_of_its_name_expects(
    path: Path, tmp_path: Path
) -> None:
    """A lone GPU that a virtual machine was given has no links; all else is as the profile says."""
    found = load(path).inventory
    names = {one.name or "" for one in found.devices}
    mine = [
        profile
        for profile in shipped(tmp_path)
        if all(any(fnmatch(name, pattern) for pattern in profile.names) for name in names)
        and profile.names != ("*",)
    ]
    assert mine, names
    for profile in mine:
        alone = replace(profile, count=found.count, nvlink=False, fabric_manager=False)
        assert compare(alone, found, fabric=None).faults == (), profile.model


def shipped(root: Path) -> Iterator[GpuProfile]:
    """Yield the profiles for one kind of GPU, without MIG, as a node reads them."""
    for file in sorted(PROJECT.profiles.glob("*.yaml")):
        value = load_profile(PROJECT, file.stem).value
        if value is not None and value.gpu is not None and value.gpu.mig is None:
            facts = {"gpu": value.gpu.model_dump(mode="json"), "driver_version": None}
            put(root / "usr/lib/imgnode/image.json", facts)
            profile = read_profile(root)
            assert profile is not None
            yield profile

"""The image of a node with GPUs, in a machine that has none: it boots, the driver fits."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from builder.vm.session import VmSize
from tests.build import gpuos

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

NODE_PROFILE = gpuos.NAME
NODE_SIZE = VmSize(disk_bytes=96 << 30)  # sparse: the profile's var has at least 64 GiB


def test_it_is_up_and_no_unit_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_gate_blames_the_hardware_keeps_the_image_and_does_not_loop(host: Host) -> None:
    told = json.loads(host.check_output("imgnode gate show --json"))["now"]
    assert told["class"] == "hardware"
    assert "expected 8 x A100-SXM4-80GB, found 0" in told["text"]
    for unit in ("boot-complete.target", "systemd-bless-boot.service"):
        assert host.check_output(f"systemctl is-active {unit}") == "active"
    assert host.file("/run/imgnode/quarantine").exists
    assert host.run("systemctl is-active vllm.service").stdout.strip() == "inactive"
    assert len(host.check_output("journalctl --list-boots --quiet").splitlines()) == 1
    metrics = host.file("/run/imgnode/metrics/gate.prom").content_string
    assert 'imgnode_gate_verdict{class="hardware"} 1' in metrics
    assert "imgnode_gpu_expected 8" in host.file("/run/imgnode/metrics/gpu.prom").content_string


def test_without_a_gpu_nothing_of_the_driver_runs(host: Host) -> None:
    loaded = host.check_output("lsmod")
    assert "nvidia" not in loaded
    assert "nouveau" not in loaded
    for unit in ("nvidia-devices.service", "nvidia-persistenced.service"):
        shown = host.check_output(f"systemctl show -p LoadState,ActiveState {unit}")
        assert sorted(shown.split()) == ["ActiveState=inactive", "LoadState=loaded"], unit


def test_the_module_fits_the_kernel_and_finds_no_gpu(host: Host) -> None:
    """No such device, rather than a wrong format or an unknown symbol: it was linked, and ran."""
    done = host.run("modprobe nvidia")
    assert done.rc != 0
    assert "No such device" in done.stderr
    told = host.check_output("dmesg")
    assert "NVRM: No NVIDIA GPU found" in told
    for words in ("disagrees about version of symbol", "Unknown symbol", "Invalid module format"):
        assert words not in told
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


def test_the_nodes_own_programs_tell_that_no_driver_is_loaded(host: Host) -> None:
    done = host.run("nvidia-smi")
    assert done.rc != 0
    assert "couldn't communicate with the NVIDIA driver" in done.stdout + done.stderr


def test_nouveau_is_left_out(host: Host) -> None:
    assert "blacklist nouveau" in host.check_output("modprobe --showconfig")


def test_the_persistence_daemon_has_its_fixed_user(host: Host) -> None:
    assert host.user("nvpd").uid == 976
    assert host.user("nvpd").gid == 976


def test_prometheus_would_be_answered(host: Host) -> None:
    """No GPU is seen, and the page says so; the files of imgnode come with the node exporter's."""
    own = host.check_output("curl -sS --retry 9 --retry-all-errors http://127.0.0.1:9101/metrics")
    assert 'imgnode_exporter_collector_success{collector="gpu"} 0' in own
    assert 'imgnode_image_info{image_id="imgbuild-a100-os"' in own
    told = host.check_output("curl -sS --retry 9 --retry-all-errors http://127.0.0.1:9100/metrics")
    assert "imgnode_gpu_expected 8" in told
    assert "node_textfile_scrape_error 0" in told
    listening = host.check_output("ss -Hltn")
    for port in (9100, 9101):
        assert f"127.0.0.1:{port}" in listening

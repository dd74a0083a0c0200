"""The page as a whole: what the image, the health checks and the collectors say."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from imgnode import metrics
from imgnode.exporter import daemon, names
from imgnode.exporter.daemon import Exporter, Place, read_place
from imgnode.exporter.node import identity_text, xid_text
from tests.unit.exporter_node import PAGE, ROOT_HASH, answering, ok, root, values
from tests.unit.serve_node import put

ABOUT = {**names.HELP, **{name: text for name, (_, text) in names.PASSED.items()}}
BOOT_COUNT = "sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return root(tmp_path)


def given(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"listen": None, "port": None, "web": None, **more})


def page(node: Path, *, gpus: bool = False) -> str:
    one = Exporter(Place("127.0.0.1", 0, gpus=gpus, vllm=8000), node)
    one._vllm.collect()
    return one.page()


def test_what_runs(node: Path) -> None:
    told = values(identity_text(node))
    image = f'image_id="x",version="1",slot="",root_hash="{ROOT_HASH}"'
    assert told == {f"imgnode_image_info{{{image}}}": 1, "imgnode_var_volatile": 0}


def test_a_version_on_trial_and_a_volatile_var(node: Path) -> None:
    text = "\\EFI\\Linux\\x_1+2-1.efi"
    (node / BOOT_COUNT).parent.mkdir(parents=True)
    (node / BOOT_COUNT).write_bytes(b"\6\0\0\0" + text.encode("utf-16-le") + b"\0\0")
    put(node / "run/imgnode/var-degraded", "no partition")
    told = values(identity_text(node))
    assert told["imgnode_boot_tries_left"] == 2
    assert told["imgnode_var_volatile"] == 1


def test_xids_are_those_that_the_health_checks_counted(node: Path) -> None:
    counts = {"0000:10:00": {"79": 1, "48": 2}, "0000:11:00": {"31": 5}}
    put(node / "run/imgnode/health.json", {"checks": {"xid": {"counts": counts}}})
    assert values(xid_text(node)) == {
        'imgnode_xid_total{address="0000:10:00.0",xid="79"}': 1,
        'imgnode_xid_total{address="0000:10:00.0",xid="48"}': 2,
        'imgnode_xid_total{address="0000:11:00.0",xid="31"}': 5,
    }


@pytest.mark.parametrize(
    "health",
    [None, "", [], {}, {"checks": None}, {"checks": {"xid": {"counts": {"a": {"1": "x"}}}}}],
)
def test_without_health_checks_there_are_no_xids(node: Path, health: object) -> None:
    if health is not None:
        put(node / "run/imgnode/health.json", health)
    assert values(xid_text(node)) == {}


def test_all_together(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, ok(PAGE))
    told = values(page(node, gpus=True))
    assert told['imgnode_exporter_collector_success{collector="vllm"}'] == 1
    assert told['imgnode_exporter_collector_success{collector="gpu"}'] == 0
    assert 'imgnode_exporter_collector_timestamp_seconds{collector="gpu"}' not in told
    assert told["process_resident_memory_bytes"] > 1 << 20


def test_each_metric_has_its_head_once(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, ok(PAGE))
    text = page(node)
    heads = re.findall(r"^# (?:HELP|TYPE) (\S+) ", text, re.MULTILINE)
    assert all(heads.count(name) == 2 for name in heads)
    assert set(heads) <= set(ABOUT)


def test_no_collector_for_gpus_where_the_image_has_none(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, b"")
    assert 'collector="gpu"' not in page(node)


@pytest.mark.allow_commands("promtool")
def test_promtool_finds_nothing_to_mend(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of vLLM's own are vLLM's matter: promtool warns of a counter or two."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: scripts/setup does it")
    answering(monkeypatch, b"")
    put(node / "run/imgnode/health.json", {"checks": {"xid": {"counts": {"a": {"79": 1}}}}})
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page(node),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_names_keep_to_the_conventions() -> None:
    """Prometheus, "Metric and label naming": one prefix, base units, _total for counters."""
    own = {**metrics.HELP, **names.HELP}
    assert not set(metrics.HELP) & set(names.HELP)
    for name, about in own.items():
        assert re.fullmatch(r"(imgnode|process)(_[a-z0-9]+)+", name), name
        assert not re.search(r"_(ms|mb|percent|milliseconds|kb|mhz|minutes|hours)(_|$)", name), name
        assert about.endswith(".") and "\n" not in about, name  # noqa: PT018


def test_where_it_listens_is_the_site_s_matter(node: Path) -> None:
    site = {"listen": "0.0.0.0", "peers": [], "ports": {"node": 9100, "imgnode": 9101}}  # noqa: S104
    root(node, monitoring=site, gpu={"model": "any"})
    assert read_place(given(), node) == Place("0.0.0.0", 9101, gpus=True, vllm=8000)  # noqa: S104
    there = read_place(given(listen="::1", port=0), node)
    assert (there.listen, there.port) == ("::1", 0)


def test_an_image_without_monitoring_listens_on_itself_alone(node: Path) -> None:
    root(node, monitoring=None)
    assert read_place(given(), node).listen == "127.0.0.1"


def test_a_wrong_setting_ends_it_with_2(
    node: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_users: {a: b}")
    with pytest.raises(SystemExit) as caught:
        daemon.serve(given(port=0, web=str(web)), node)
    assert caught.value.code == 2
    assert "web.yml: basic_auth_users.a: must be a hash" in capsys.readouterr().err

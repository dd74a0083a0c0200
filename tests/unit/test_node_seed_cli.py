"""What `imgnode` says about seed and config, and the metrics as Prometheus reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.rootfs.overlay import lay_overlay
from imgnode import cli, guard, metrics
from imgnode.commands import model, status
from imgnode.identity import Identity
from imgnode.nodeconfig import NodeConfig, SeedError, read_errors, read_node, write_node
from imgnode.serve import plan, report
from tests.unit import fakes

CONFIG = NodeConfig({"model": "a/b"}, "last good seed", ("hostname",), "/dev/vda6")
ERROR = SeedError("user-data", "user-data: is not a map")


def call(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *words: str,
    config: NodeConfig | None = CONFIG,
    errors: tuple[SeedError, ...] = (),
) -> str:
    identity = Identity("imgbuild-cpu", "1.2", "ab" * 32, None, None)
    monkeypatch.setattr(status, "read_identity", lambda: identity)
    monkeypatch.setattr(status, "read_node", lambda: config)
    monkeypatch.setattr(model, "read_node", lambda _: config)
    monkeypatch.setattr(plan, "read_node", lambda _: config)
    monkeypatch.setattr(report, "read", lambda _: None)
    monkeypatch.setattr(status, "read_errors", lambda: list(errors))
    cli.main(list(words))
    return capsys.readouterr().out


def test_status_of_a_good_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "seed     good (/dev/vda6)\n" in call(monkeypatch, capsys, "status")


def test_status_of_a_bad_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = call(monkeypatch, capsys, "status", errors=(ERROR,))
    assert "seed     BAD: user-data: is not a map\n" in out
    assert "config   from the last good seed; also from there: hostname\n" in out
    told = json.loads(call(monkeypatch, capsys, "status", "--json", errors=(ERROR,)))
    assert told["seed_errors"] == [{"key": "user-data", "text": "user-data: is not a map"}]


def test_status_before_the_guard_has_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "seed" not in call(monkeypatch, capsys, "status", config=None)


def test_the_config_and_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, capsys, "model", "show") == '# from: last good seed\nmodel: "a/b"\n'
    told = json.loads(call(monkeypatch, capsys, "model", "show", "--json"))
    assert told["source"] == "last good seed"
    assert told["inference"] == {"model": "a/b"}
    out = call(monkeypatch, capsys, "model", "show", config=NodeConfig())
    assert out == "# from: default\n# no model: there is nothing to serve\n"
    with pytest.raises(SystemExit, match="no config yet"):
        call(monkeypatch, capsys, "model", "show", config=None)


def test_seed_apply_runs_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(guard, "apply", lambda: ran.append(1))
    cli.main(["seed", "apply"])
    assert ran


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_node(tmp_path) is None
    assert read_errors(tmp_path) == []
    write_node(CONFIG, [ERROR], tmp_path)
    assert read_node(tmp_path) == CONFIG
    assert read_errors(tmp_path) == [ERROR]
    write_node(CONFIG, [], tmp_path)
    assert read_errors(tmp_path) == []


def test_metrics_are_escaped(tmp_path: Path) -> None:
    samples: metrics.Samples = {(("key", 'a"b\\c\nd'),): 2.0}
    metrics.write("x", {metrics.CONFIG_ERRORS: samples}, tmp_path)
    text = (tmp_path / "run/imgnode/metrics/x.prom").read_text()
    assert text.splitlines() == [
        "# HELP imgnode_config_errors Mistakes in the seed of this boot, by key.",
        "# TYPE imgnode_config_errors gauge",
        'imgnode_config_errors{key="a\\"b\\\\c\\nd"} 2',
    ]
    assert (tmp_path / "run/imgnode/metrics/x.prom").stat().st_mode & 0o777 == 0o644


def test_the_sites_keys_open_every_node(tmp_path: Path) -> None:
    site = fakes.site(ssh_authorized_keys=("ssh-ed25519 AAAAC3 one", "ssh-rsa AAAAB3 two"))
    values = {"profile": fakes.spec().profile, "site": site, "identity": fakes.IDENTITY}
    lay_overlay(Path(__file__).parents[2] / "overlays/ssh", tmp_path, values)
    keys = (tmp_path / "etc/ssh/authorized_keys.d/admin").read_text().splitlines()
    assert keys[1:] == ["ssh-ed25519 AAAAC3 one", "ssh-rsa AAAAB3 two"]
    conf = (tmp_path / "etc/ssh/sshd_config.d/50-imgnode.conf").read_text()
    assert "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n" in conf

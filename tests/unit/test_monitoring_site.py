"""What a site says of monitoring, and what becomes of it in the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from builder.core.paths import Project
from builder.model.site import Monitoring
from builder.model.spec import Spec
from builder.resolve import resolve
from builder.rootfs.finish import _monitoring
from builder.rootfs.overlay import lay_overlay

PROJECT = Project(Path(__file__).parents[2])
PRESET = PROJECT.units / "system-preset/00-imgnode.preset"
NODE = "prometheus-node-exporter.service.d/50-imgnode.conf"
OWN = "imgnode-exporter.service"


def spec(profile: str = "cpu", **monitoring: Any) -> Spec:  # noqa: ANN401 - keys of the site
    made = resolve(PROJECT, profile, "debian")
    site = made.site.model_copy(update={"monitoring": Monitoring(**monitoring)})
    return made.model_copy(update={"site": site})


def unit(folder: Path, name: str, **monitoring: Any) -> dict[str, list[str]]:  # noqa: ANN401
    """Return the settings of a unit as the image has it."""
    made = spec(**monitoring)
    values = {"profile": made.profile, "site": made.site}
    lay_overlay(PROJECT.overlays / "monitoring", folder, values)
    text = (folder / "usr/lib/systemd/system" / name).read_text().replace("\\\n", "")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and line[0] != "#":
            found.setdefault(key, []).append(value)
    return found


def test_without_a_word_of_the_site_nobody_else_may_ask(tmp_path: Path) -> None:
    for name in (NODE, OWN):
        told = unit(tmp_path, name)
        assert (told["IPAddressDeny"], told["IPAddressAllow"]) == (["any"], ["localhost"])
    assert "--web.listen-address=127.0.0.1:9100" in unit(tmp_path, NODE)["ExecStart"][1]


def test_the_sites_peers_may_ask(tmp_path: Path) -> None:
    site = {"listen": "::", "peers": ("10.1.0.0/24", "fd00::/64")}
    for name in (NODE, OWN):
        told = unit(tmp_path, name, **site)
        assert told["IPAddressAllow"] == ["localhost", "10.1.0.0/24", "fd00::/64"]
    assert "--web.listen-address=[::]:9100" in unit(tmp_path, NODE, **site)["ExecStart"][1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"listen": "eth0"}, "must be an IP address"),
        ({"peers": ("10.1.0.5/24",)}, "must be a network without host bits"),
        ({"peers": ("all",)}, "must be a network"),
        ({"node_port": 9}, "Extra inputs"),
    ],
)
def test_what_is_no_address_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Monitoring(**values)


def test_the_node_knows_who_may_ask_and_where() -> None:
    assert _monitoring(spec(listen="0.0.0.0", peers=("10.1.0.0/24",))) == {  # noqa: S104
        "listen": "0.0.0.0",  # noqa: S104
        "peers": ("10.1.0.0/24",),
        "ports": {"node": 9100, "imgnode": 9101},
    }
    assert _monitoring(spec("bare")) is None


@pytest.mark.parametrize("name", [NODE, OWN])
def test_a_fault_of_the_exporter_is_none_of_the_image(tmp_path: Path, name: str) -> None:
    """A unit that is never "failed" cannot cost a version its good mark (imgnode/gate)."""
    told = unit(tmp_path, name)
    assert (told["Restart"], told["RestartMode"]) == (["always"], ["direct"])
    assert told["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("name", [NODE, OWN])
def test_tls_and_users_come_as_credentials(tmp_path: Path, name: str) -> None:
    told = unit(tmp_path, name)
    assert told["ImportCredential"] == ["monitoring.*"]
    assert told["SetCredential"] == ["monitoring.web.yml:{}"]
    assert "--web.config.file=%d/monitoring.web.yml" in told["ExecStart"][-1]


def test_nothing_closes_dev_to_the_gpu_driver(tmp_path: Path) -> None:
    closing = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "ProcSubset"}
    assert not closing & set(unit(tmp_path, OWN))


def test_both_are_enabled_where_they_are() -> None:
    enabled = PRESET.read_text().splitlines()
    for name in ("prometheus-node-exporter.service", OWN):
        assert f"enable {name}" in enabled


@pytest.mark.parametrize("profile", ["cpu", "a100", "multi"])
def test_nodes_that_serve_are_watched(profile: str) -> None:
    made = resolve(PROJECT, profile, "debian")
    assert "monitoring" in made.overlays
    assert "prometheus-node-exporter" in made.packages

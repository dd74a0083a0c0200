"""The checks of what runs on the node: units, Docker, layers, GPUs, certificates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from imgnode.gate import systemd
from imgnode.gpu import check as gpu_check
from imgnode.gpu.check import Report
from imgnode.health.checks import certificates
from imgnode.health.checks.certificates import CertificatesCheck
from imgnode.health.checks.docker import DockerCheck
from imgnode.health.checks.gpu import GpuCheck
from imgnode.health.checks.layers import LayersCheck
from imgnode.health.checks.units import UnitsCheck
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.layers import mounts
from imgnode.loopback import Answer
from imgnode.problems import Problem
from imgnode.process import Finished, run
from tests.unit import serve_node
from tests.unit.serve_node import put


def told(found: list[Finding]) -> list[tuple[str, Level, Remedy]]:
    return [(one.key, one.level, one.remedy) for one in found]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return serve_node.make(tmp_path)


def test_units(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = ("ssh.service", "x.service", "fstrim.service", "vllm.service", "a.mount")
    kinds = {"ssh.service": "notify", "x.service": "simple", "fstrim.service": "oneshot"}

    def properties(unit: str, *names: str) -> Mapping[str, str]:
        assert names == ("Type",)
        return {"Type": kinds.get(unit, "")}

    monkeypatch.setattr(systemd, "failed_units", lambda: failed)
    monkeypatch.setattr(systemd, "properties", properties)
    found = UnitsCheck(root).look(0)
    assert [(one.unit, one.level, one.remedy) for one in found] == [
        ("ssh.service", Level.FAILED, Remedy.UNIT),
        ("x.service", Level.WARNING, Remedy.UNIT),
        ("fstrim.service", Level.WARNING, Remedy.NONE),
        ("a.mount", Level.WARNING, Remedy.NONE),
    ]


class Docker:
    """What Docker answers by path, and how systemd sees it."""

    def __init__(self, root: Path) -> None:
        self.answers: dict[str, int] = {}
        self.error: OSError | None = None
        self.unit = {"ActiveState": "active", "Job": ""}
        self.check = DockerCheck(root, ask=self.ask, unit=lambda: self.unit)

    def ask(self, place: Path, path: str, *, limit_s: float) -> Answer:
        assert place.name == "docker.sock"
        assert limit_s <= 10
        if self.error:
            raise self.error
        return Answer(self.answers.get(path.split("/")[1], 200), b"{}")

    def look(self) -> list[tuple[str, Level, Remedy]]:
        return told(self.check.look(0))


@pytest.mark.parametrize(
    ("error", "key"), [(TimeoutError("timed out"), "hung"), (ConnectionRefusedError(), "dead")]
)
def test_docker_must_be_gone_for_two_looks(root: Path, error: OSError, key: str) -> None:
    docker = Docker(root)
    assert docker.check.supported()
    assert docker.look() == []
    docker.error = error
    assert docker.look() == []
    assert docker.look() == [(key, Level.FAILED, Remedy.DOCKER)]
    docker.unit["ActiveState"] = "activating"
    assert docker.look() == []
    docker.unit.update(ActiveState="failed", Job="7")
    assert docker.look() == []
    docker.unit["Job"] = ""
    assert docker.look() == [(key, Level.FAILED, Remedy.DOCKER)]
    docker.error = None
    assert docker.look() == []
    docker.error = error
    assert docker.look() == []


def test_a_docker_that_lost_the_image(root: Path) -> None:
    docker = Docker(root)
    docker.answers["images"] = 404
    docker.answers["containers"] = 404  # there is none just now: that is an answer
    assert docker.look() == []  # nobody has said that layers are seeded
    put(root / "run/imgnode/serve.json", {"image_copied": True})
    assert docker.look() == []
    put(root / "run/imgnode/serve.json", {"image_copied": False})
    assert docker.look() == [("image", Level.WARNING, Remedy.NONE)]
    put(
        root / "usr/lib/imgnode/payload.json",
        {"schema_version": 1, "container": None, "models": [], "files": []},
    )
    assert not docker.check.supported()


def test_layers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = LayersCheck(root)
    assert not check.supported()
    names = ("ab" * 32, "cd" * 32, "ef" * 32)
    files = [{"root_hash": n, "bytes": 2, "data_bytes": 1, "sha256": n} for n in names]
    put(
        root / "usr/lib/imgnode/payload.json",
        {"schema_version": 1, "container": None, "models": [], "files": files},
    )
    assert check.supported()
    place = f"{root}/run/imgnode/layers"
    lines = [f"1 1 253:{n} / {place}/{name} ro - erofs" for n, name in enumerate(names[:2])]
    put(root / "proc/self/mountinfo", "\n".join(lines))
    verdicts = {f"imgnode-{names[0][:16]}": True, f"imgnode-{names[1][:16]}": False}
    monkeypatch.setattr(mounts, "verdicts", lambda: verdicts)
    found = check.look(0)
    assert [(one.key, one.evidence.get("root_hash"), one.unit) for one in found] == [
        ("corrupt", names[1], None),
        ("missing", None, "imgnode-layers.service"),
    ]


def test_gpus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not GpuCheck(root).supported()
    faults = (
        Problem("gpu.3.lost", "GPU 3 is lost", "power"),
        Problem("gpu.hang", "the driver does not answer"),
        Problem("gpu.0.nvlink", "down"),
        Problem("gpu.fabric_manager", "down"),
        Problem("gpu.7.rows_failed", "used up"),
        Problem("gpu.2.name", "another board"),
    )
    report = Report(faults=faults, warnings=(Problem("gpu.1.rows_pending", "pending"),))
    monkeypatch.setattr(gpu_check, "look", lambda _: report)
    found = GpuCheck(root).look(0)
    assert [(one.key, one.level, one.remedy, one.gpus, one.unit) for one in found] == [
        ("lost", Level.FAILED, Remedy.REBOOT, (3,), None),
        ("hang", Level.FAILED, Remedy.REBOOT, (), None),
        ("nvlink", Level.FAILED, Remedy.GPU_RESET, (0,), None),
        ("fabric_manager", Level.FAILED, Remedy.UNIT, (), "nvidia-fabricmanager.service"),
        ("rows_failed", Level.FAILED, Remedy.QUARANTINE, (7,), None),
        ("name", Level.FAILED, Remedy.NONE, (2,), None),
        ("rows_pending", Level.WARNING, Remedy.NONE, (1,), None),
    ]


def test_certificates_that_configs_name(root: Path) -> None:
    put(
        root / "etc/imgnode/web.yml",
        "tls_server_config:\n  cert_file: tls/node.crt  # ours\n  key_file: tls/node.key\n"
        '  client_ca_file: "/etc/ssl/fleet.crt"\n',
    )
    put(
        root / "etc/credstore/monitoring.web.yml",
        "tls_server_config: {cert_file: monitoring.tls.crt, key_file: monitoring.tls.key}\n",
    )
    ends = {
        root / "etc/credstore/monitoring.tls.crt": (Level.OK, "Dec  1 10:00:00 2036 GMT"),
        root / "etc/imgnode/tls/node.crt": (Level.WARNING, "Dec  1 10:00:00 2026 GMT"),
        root / "etc/ssl/fleet.crt": (Level.FAILED, "Nov  1 10:00:00 2026 GMT"),
    }
    found = CertificatesCheck(root, see=ends.__getitem__).look(0)
    assert [(one.key, one.level, one.evidence["file"]) for one in found] == [
        ("expiry", Level.WARNING, "/etc/imgnode/tls/node.crt"),
        ("expired", Level.FAILED, "/etc/ssl/fleet.crt"),
    ]
    good = CertificatesCheck(root, see=lambda _: (Level.OK, "never"))
    assert good.look(0) == []

    def refuse(path: Path) -> tuple[Level, str]:
        raise ValueError(f"{path.name}: no PEM")

    bad = CertificatesCheck(root, see=refuse).look(0)
    assert {(one.key, one.level) for one in bad} == {("unreadable", Level.WARNING)}


@pytest.mark.parametrize(
    ("answers", "level"),
    [({14 * 86400: 0}, Level.OK), ({14 * 86400: 1, 0: 0}, Level.WARNING),
     ({14 * 86400: 1, 0: 1}, Level.FAILED)],
)  # fmt: skip
def test_what_openssl_says(
    monkeypatch: pytest.MonkeyPatch, answers: dict[int, int], level: Level
) -> None:
    def answer(words: list[str], *, timeout_s: float) -> Finished:
        assert timeout_s <= 30
        seconds = int(words[words.index("-checkend") + 1])
        text = "notAfter=Dec  1 10:00:00 2026 GMT\nCertificate will expire\n"
        return Finished(answers[seconds], text, "")

    monkeypatch.setattr(certificates, "run", answer)
    assert certificates.look_at(Path("/x")) == (level, "Dec  1 10:00:00 2026 GMT")


@pytest.mark.allow_commands("openssl")
def test_openssl_itself(tmp_path: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-subj", "/CN=x", "-keyout", f"{tmp_path}/k", "-out", f"{tmp_path}/c"]
    assert run([*words, "-days", "30"], timeout_s=60).rc == 0
    level, ends = certificates.look_at(tmp_path / "c")
    assert level is Level.OK
    assert time.strptime(ends, "%b %d %H:%M:%S %Y GMT")
    assert run([*words, "-days", "3"], timeout_s=60).rc == 0
    assert certificates.look_at(tmp_path / "c")[0] is Level.WARNING
    with pytest.raises(ValueError, match="k"):
        certificates.look_at(tmp_path / "k")
    with pytest.raises(ValueError, match="nowhere"):
        certificates.look_at(tmp_path / "nowhere")

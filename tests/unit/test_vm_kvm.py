"""What the KVM probe says about a QEMU that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.process import Runner
from builder.vm import kvm
from builder.vm.kvm import KvmResult, probe_argv, probe_kvm, reason
from builder.vm.qemu import Firmware


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            "qemu-system-x86_64: warning: host doesn't support requested feature: x\n"
            "KVM internal error. Suberror: 1\nextra data[0]: 0x1\n",
            "KVM internal error. Suberror: 1",
        ),
        (
            "Could not access KVM kernel module: No such file or directory\n"
            "qemu-system-x86_64: -accel kvm: failed to initialize kvm: No such file\n",
            "Could not access KVM kernel module: No such file or directory",
        ),
        (
            "error: failed to set MSR 0x10a\nqemu: kvm_buf_set_msrs: Assertion `ret' failed.\n",
            "qemu: kvm_buf_set_msrs: Assertion `ret' failed.",
        ),
        ("", "QEMU ended without a word"),
    ],
)
def test_the_telling_line(words: str, why: str) -> None:
    assert reason(words) == why


def test_the_probe_boots_the_firmware_of_the_nodes() -> None:
    argv = probe_argv(Path("/w"), Firmware())
    assert argv[argv.index("-accel") : argv.index("-accel") + 4] == [
        "-accel",
        "kvm",
        "-cpu",
        "host",
    ]
    assert any("OVMF_CODE_4M.fd" in word for word in argv)
    assert "file:/w/serial.log" in argv


def test_the_host_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [KvmResult(usable=True, why="first"), KvmResult(usable=False, why="second")]
    monkeypatch.setattr(kvm, "_known", [])
    monkeypatch.setattr(kvm, "_probe", lambda *_: answers.pop(0))
    assert probe_kvm(Runner(), tmp_path).why == "first"
    assert probe_kvm(Runner(), tmp_path).why == "first"

"""What runs on the node, tried below a folder that plays its root."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest

from imgnode import cli, etc
from imgnode.commands import status as status_command
from imgnode.identity import Identity, read_identity, read_slot
from imgnode.process import Finished, run
from imgnode.schema import report as schema_report

BOOT_COUNT = "sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
HASH = "0123456789abcdef" * 4


@pytest.fixture
def node(tmp_path: Path) -> Path:
    for folder in ("usr/lib/imgnode", "proc", "run/imgnode", "etc/ssh", "var"):
        (tmp_path / folder).mkdir(parents=True)
    facts = {"image_id": "imgbuild-cpu", "version": "1.2", "profile": "cpu"}
    (tmp_path / "usr/lib/imgnode/image.json").write_text(json.dumps(facts))
    (tmp_path / "proc/cmdline").write_text(f"roothash={HASH} ro console=ttyS0\n")
    (tmp_path / "usr/lib/imgnode/etc-persist.conf").write_text(
        "# a comment\n\nmachine-id\nssh/ssh_host_*_key\n"
    )
    return tmp_path


def counting(node: Path, entry: str) -> None:
    """Write the variable as efivarfs shows it: 4 bytes of attributes, then UTF-16 text."""
    path = node / BOOT_COUNT
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack("<I", 6) + f"{entry}\0".encode("utf-16-le"))


@pytest.mark.parametrize(
    ("entry", "tries"),
    [
        (r"\EFI\Linux\imgbuild-cpu_1.2+2-1.efi", "+2-1"),
        (r"\EFI\Linux\imgbuild-cpu_1.2+3.efi", "+3"),
        (r"\EFI\Linux\imgbuild-cpu_1.2+0-3.efi", "+0-3"),
        (r"\EFI\Linux\imgbuild-cpu_1.2.efi", None),
        (r"\EFI\Linux\imgbuild-cpu_1+2.conf", None),
    ],
)
def test_tries_come_from_the_boot_loader(node: Path, entry: str, tries: str | None) -> None:
    counting(node, entry)
    assert read_identity(node).tries == tries


def test_without_the_variable_the_version_is_good(node: Path) -> None:
    assert read_identity(node) == Identity("imgbuild-cpu", "1.2", HASH, None, None)


@pytest.mark.parametrize(
    ("cmdline", "told"),
    [
        (f"quiet roothash={HASH}", HASH),
        (f"roothash={HASH[:-1]} quiet", "none"),
        (f"roothash={HASH}0", "none"),
        ("root=/dev/vda2", "none"),
    ],
)
def test_the_root_hash_is_whole_or_none(node: Path, cmdline: str, told: str) -> None:
    (node / "proc/cmdline").write_text(cmdline)
    assert read_identity(node).root_hash == told


def test_a_volatile_var_has_its_reason(node: Path) -> None:
    (node / "run/imgnode/var-degraded").write_text("no partition named var\n")
    assert read_identity(node).var_degraded == "no partition named var"


def test_an_image_that_does_not_say_what_it_is(node: Path) -> None:
    (node / "usr/lib/imgnode/image.json").unlink()
    with pytest.raises(OSError, match=r"image\.json"):
        read_identity(node)


@pytest.mark.parametrize(
    ("numbers", "slot"), [((2, 3), "A"), ((5, 4), "B"), ((1,), None), ((), None)]
)
def test_the_slot_is_told_by_the_partitions(
    node: Path, numbers: tuple[int, ...], slot: str | None
) -> None:
    device = node.stat().st_dev
    slaves = node / f"sys/dev/block/{os.major(device)}:{os.minor(device)}/slaves"
    for number in numbers:
        (slaves / f"vda{number}").mkdir(parents=True)
        (slaves / f"vda{number}/partition").write_text(f"{number}\n")
    assert read_slot(node) == slot


def state(node: Path) -> dict[str, str]:
    folder = node / "var/lib/imgnode/etc"
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_only_what_is_declared_is_saved(node: Path) -> None:
    for name in ("machine-id", "passwd", "ssh/ssh_host_rsa_key", "ssh/sshd_config"):
        (node / "etc" / name).write_text(name)
    (node / "etc/ssh/ssh_host_dir_key").mkdir()
    assert etc.save(node) == ["machine-id", "ssh/ssh_host_rsa_key"]
    assert state(node) == {
        "machine-id": "machine-id",
        "ssh/ssh_host_rsa_key": "ssh/ssh_host_rsa_key",
    }


def test_what_is_unchanged_is_not_written_again(node: Path) -> None:
    (node / "etc/ssh/ssh_host_rsa_key").write_text("one")
    etc.save(node)
    saved = node / "var/lib/imgnode/etc/ssh/ssh_host_rsa_key"
    before = saved.stat()
    (node / "etc/ssh/ssh_host_rsa_key").touch()
    assert etc.save(node) == []
    assert (saved.stat().st_ino, saved.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    (node / "etc/ssh/ssh_host_rsa_key").write_text("two")
    assert etc.save(node) == ["ssh/ssh_host_rsa_key"]
    assert saved.read_text() == "two"


def test_a_machine_id_that_waits_for_the_next_boot_is_left_alone(node: Path) -> None:
    saved = node / "var/lib/imgnode/etc/machine-id"
    saved.parent.mkdir(parents=True)
    saved.write_text("brought back")
    (node / "etc/machine-id").write_text("of this boot")
    assert etc.save(node) == []
    assert saved.read_text() == "brought back"


def test_what_is_declared_is_brought_back_but_for_the_machine_id(node: Path) -> None:
    for name in ("machine-id", "ssh/ssh_host_rsa_key", "ssh/sshd_config"):
        path = node / "saved" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
        (node / "etc" / name).write_text("new")
    assert etc.bring_back(node / "saved", node) == ["ssh/ssh_host_rsa_key"]
    assert (node / "etc/ssh/ssh_host_rsa_key").read_text() == "old"
    assert (node / "etc/machine-id").read_text() == "new"
    assert etc.bring_back(node / "saved", node) == []


def test_nothing_to_save_is_fine(node: Path) -> None:
    assert etc.save(node) == []


def test_modes_are_kept(node: Path) -> None:
    key = node / "etc/ssh/ssh_host_rsa_key"
    key.write_text("secret")
    key.chmod(0o600)
    etc.save(node)
    copy = node / "var/lib/imgnode/etc/ssh/ssh_host_rsa_key"
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_private_key_is_at_no_moment_readable_by_others(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = node / "etc/ssh/ssh_host_rsa_key"
    key.write_text("secret")
    key.chmod(0o600)
    temporary = node / "var/lib/imgnode/etc/ssh/.ssh_host_rsa_key.new"
    temporary.parent.mkdir(parents=True)
    temporary.write_text("left by a power cut")
    temporary.chmod(0o644)
    modes = []

    def between(source: Path, target: Path, *, follow_symlinks: bool = True) -> None:
        modes.append(target.stat().st_mode & 0o777)
        genuine(source, target, follow_symlinks=follow_symlinks)

    genuine = shutil.copystat
    monkeypatch.setattr(shutil, "copystat", between)
    etc.save(node)
    assert modes == [0o600]


@pytest.mark.parametrize("step", ["fsync", "chown"])
def test_a_failure_keeps_what_was_saved_before(
    node: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (node / "etc/ssh/ssh_host_rsa_key").write_text("old")
    etc.save(node)
    (node / "etc/ssh/ssh_host_rsa_key").write_text("new")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        etc.save(node)
    assert (node / "var/lib/imgnode/etc/ssh/ssh_host_rsa_key").read_text() == "old"


def test_a_copy_is_flushed_before_it_takes_the_name(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    replace, fsync = Path.replace, os.fsync

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(self, target)

    def noted_fsync(handle: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file"  # noqa: PTH112
        steps.append(f"flush {kind}")
        fsync(handle)

    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    (node / "etc/machine-id").write_text("x")
    etc.save(node)
    assert steps == ["flush file", "replace", "flush folder"]


GOOD = Identity("imgbuild-cpu", "1.2", HASH, None, None)
TRIAL = Identity("imgbuild-cpu", "1.2", HASH, "+2-1", "no disk")


def status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    identity: Identity,
    *words: str,
    blessed: bool = False,
    gate: dict[str, str] | None = None,
) -> str:
    monkeypatch.setattr(status_command, "read_identity", lambda: identity)
    monkeypatch.setattr(status_command, "read_gate", lambda: gate)
    monkeypatch.setattr(
        status_command, "run", lambda *_, **__: Finished(0 if blessed else 3, "", "")
    )
    cli.main(["status", *words])
    return capsys.readouterr().out


def test_status_of_a_good_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, capsys, GOOD).splitlines() == [
        "image    imgbuild-cpu 1.2",
        "root     verity 0123456789abcdef…",
        "boot     good",
    ]


def test_status_of_a_version_on_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = status(monkeypatch, capsys, TRIAL)
    assert "boot     on trial +2-1\n" in told
    assert "var      VOLATILE: no disk\n" in told
    assert "boot     good since this boot\n" in status(monkeypatch, capsys, TRIAL, blessed=True)


def test_status_tells_the_gates_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = {"state": "judging", "class": "", "check": "serve", "text": "loading", "then": "x"}
    assert "gate     judging: serve: loading\n" in status(monkeypatch, capsys, GOOD, gate=gate)
    gate |= {"state": "done", "class": "ok"}
    told = status(monkeypatch, capsys, GOOD, gate=gate)
    assert told.endswith("boot     good\ngate     ok: loading\n")
    gate["class"] = "config"
    assert "gate     config: loading\ngate     x\n" in status(monkeypatch, capsys, GOOD, gate=gate)
    assert json.loads(status(monkeypatch, capsys, GOOD, "--json", gate=gate))["gate"] == gate


def test_status_tells_of_a_newer_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"number": 2, "known": 2, "kept": 1, "error": None}
    monkeypatch.setattr(schema_report, "read", lambda: told)
    assert "state" not in status(monkeypatch, capsys, GOOD)
    told["number"] = 3
    assert "state    NEWER: of form 3, this version knows 2" in status(monkeypatch, capsys, GOOD)
    assert json.loads(status(monkeypatch, capsys, GOOD, "--json"))["schema"] == told


def test_status_for_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(status(monkeypatch, capsys, TRIAL, "--json"))
    assert told["tries"] == "+2-1"
    assert told["root_hash"] == HASH


def test_saving_tells_what_was_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(etc, "save", lambda: ["machine-id"])
    cli.main(["etc", "save"])
    assert capsys.readouterr().out == "saved /etc/machine-id\n"


@pytest.mark.parametrize("words", [[], ["nonesuch"], ["etc"], ["status", "--jsn"]])
def test_a_wrong_call_is_two(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


@pytest.mark.allow_commands("sh", "sleep", "nonesuch", "cat", "machine-id")
def test_a_program_never_outlasts_its_time(tmp_path: Path) -> None:
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10) == Finished(
        3, "out\n", "err\n"
    )
    assert run(["cat"], timeout_s=10).stdout == ""
    assert run(["sleep", "60"], timeout_s=0.1).rc == 124
    assert run(["nonesuch"], timeout_s=1).rc == 127
    (tmp_path / "machine-id").write_text("no program")
    assert run([str(tmp_path / "machine-id")], timeout_s=1).rc == 127

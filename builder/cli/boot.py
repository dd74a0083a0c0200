"""`imgbuild boot`: the real thing in QEMU, from firmware to login."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from builder.cli import options
from builder.cli.ask import MEMORY_MIB, demo_seed, show_answer
from builder.cli.session import session
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.files import write_atomic
from builder.vm.console import attach
from builder.vm.keep import keeping
from builder.vm.kvm import probe_kvm
from builder.vm.qemu import Accel
from builder.vm.session import DEFAULT_SEED, VmNode, VmSize, start_node

_UP_TIMEOUT_S = 600
_TIMES = "systemd-analyze time; systemd-analyze blame --no-pager"
_STATUS = "imgnode status; echo; systemctl --failed --no-pager --quiet; systemd-analyze time"


@click.command("boot")
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="image folder or disk file; default: the newest below out/",
)
@click.option("--seed", type=click.Path(path_type=Path), help="cloud-config file of the node")
@click.option("--memory", type=int, help="MiB; default: 2048, with --ask 6144")
@click.option("--cpus", default=2, show_default=True)
@click.option(
    "--accel",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="auto boots something tiny to see whether KVM works",
)
@click.option("--status", is_flag=True, help="wait until the node is up, show it, power it off")
@click.option(
    "--times",
    type=click.Path(path_type=Path),
    help="with --status: file for how long it took, for imgbuild report --boot",
)
@click.option("--ask", metavar="QUESTION", help="wait until the node serves, print its answer")
@click.option("--check", is_flag=True, help="run the boot tests against the image")
@click.option("--keep", type=click.Path(path_type=Path), help="folder for the logs of a failure")
@options.debug
def command(
    image: Path | None,
    seed: Path | None,
    memory: int | None,
    cpus: int,
    accel: str,
    status: bool,
    times: Path | None,
    ask: str | None,
    check: bool,
    keep: Path | None,
    debug: bool,
) -> None:
    """Boot an image as a node: OVMF, systemd-boot, UKI, verity root.

    The image itself stays as it is; the machine works on a copy.
    """
    if times and not status:
        raise UserError("--times needs --status")
    with session(debug=debug, live=False) as context:
        disk = _disk(context, image)
        if check:
            _check(context, disk)
            return
        chosen = _accel(context, accel)
        text = _seed_text(seed, DEFAULT_SEED if ask is None else demo_seed(chosen))
        folder = context.cache.root / "vm"
        megabytes = memory or (MEMORY_MIB if ask else VmSize.memory_mib)
        size = VmSize(cpus=cpus, memory_mib=megabytes)
        logs = keep or context.project.out / "failed-boot"
        with (
            start_node(context.runner, disk, text, folder, accel=chosen, size=size) as node,
            keeping(node.machine, node.ssh, logs),
        ):
            if ask:
                show_answer(context, node, ask)
            elif status:
                _show_status(context, node, times)
            else:
                _console(node)


def _disk(context: Context, image: Path | None) -> Path:
    if image is None:
        found = context.project.out.glob("*/*/disk.raw")
        newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        if newest is None:
            raise UserError(
                f"{context.project.out}: no image yet", hint="imgbuild build --profile cpu"
            )
        return newest
    disk = image / "disk.raw" if image.is_dir() else image
    if not disk.is_file():
        raise UserError(f"{disk}: no such disk image", hint="give a folder made by imgbuild build")
    return disk.absolute()


def _seed_text(seed: Path | None, default: str) -> str:
    if seed is None:
        return default
    try:
        return seed.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{seed}: cannot be read: {error}", hint="give a #cloud-config") from None


def _accel(context: Context, wanted: str) -> Accel:
    if wanted == "kvm":
        return "kvm"
    if wanted == "auto":
        with context.cache.workspace("kvm") as scratch:
            result = probe_kvm(context.runner, scratch)
        if result.usable:
            return "kvm"
        context.emit(Note("info", f"KVM: {result.why}; emulating, which is some ten times slower"))
    return "tcg"


def _show_status(context: Context, node: VmNode, times: Path | None) -> None:
    started = time.monotonic()
    node.machine.wait_for("login:", _UP_TIMEOUT_S)
    context.emit(Note("info", f"login after {time.monotonic() - started:.0f} s"))
    node.ssh.wait_ready(_UP_TIMEOUT_S)
    node.ssh.run("systemctl is-system-running --wait", _UP_TIMEOUT_S)
    context.emit(Note("info", f"all services after {time.monotonic() - started:.0f} s"))
    print(node.ssh.run(_STATUS).stdout)
    if times:
        write_atomic(times, node.ssh.run(_TIMES).stdout)
    node.machine.poweroff(_UP_TIMEOUT_S)


def _console(node: VmNode) -> None:
    if not sys.stdin.isatty():
        raise UserError(
            "the console needs a terminal",
            hint="--status shows the node and ends, --check runs the boot tests",
        )
    print(f"console: Ctrl-] ends the machine; from elsewhere: ssh -F {node.ssh.config} node")
    attach(node.machine)


def _check(context: Context, disk: Path) -> None:
    """Run tests/vm against the image; their exit status is ours (1: the image is bad)."""
    tests = context.project.root / "tests" / "vm"
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "vm",
        "--override-ini=addopts=",
        "-ra",
        str(tests),
    ]
    done = subprocess.run(
        argv,
        check=False,
        cwd=context.project.root,
        env={**os.environ, "IMGBUILD_TEST_IMAGE": str(disk)},
    )
    if done.returncode:
        raise click.exceptions.Exit(1)

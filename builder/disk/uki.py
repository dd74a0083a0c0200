"""The unified kernel image: kernel, initrd and sealed command line in one EFI program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.sandbox import Sandbox
from builder.disk.secureboot import BootSigning, sign_program
from builder.model.artifacts import Identity, RootImage
from builder.model.spec import Spec

# A node that panics or loses PID 1 must reboot, so that boot counting can fall back.
# `gpt`: the second table serves where a power cut has damaged the first.
_CMDLINE = ("ro", "rootfstype=erofs", "gpt", "panic=10", "systemd.crash_reboot=yes", "loglevel=4")

# Nothing is counted here: a machine whose installer fails shall try again.
_INSTALLER_CMDLINE = ("panic=30", "systemd.crash_reboot=yes", "loglevel=4", "systemd.show_status=0")
_INSTALLER = "installer.efi"


@dataclass(frozen=True)
class Kernel:
    """A kernel image and its release (uname -r)."""

    file: Path
    release: str


def kernel_command_line(spec: Spec, root: RootImage) -> str:
    """Return the sealed command line; the root hash makes the chain of trust reach the root."""
    return " ".join([f"roothash={root.root_hash}", *_CMDLINE, *spec.profile.kernel.cmdline])


def build_uki(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    identity: Identity,
    root: RootImage,
    initrd: Path,
    target: Path,
) -> None:
    """Write the UKI to `target` with ukify(1)."""
    kernel = Kernel(root.kernel, root.kernel_release)
    _ukify(context, tools, identity, kernel, initrd, kernel_command_line(spec, root), target)


def build_installer_uki(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    identity: Identity,
    kernel: Kernel,
    initrd: Path,
    initrd_key: str,
    order: str | None,
    tools_inputs: list[str],
    signing: BootSigning | None,
) -> Path:
    """Return the installer's UKI; the address `order` is sealed into its command line.

    With `signing`, firmware with Secure Boot starts it.
    """
    words = [*_INSTALLER_CMDLINE, *spec.profile.kernel.cmdline]
    cmdline = " ".join([*words, *([f"imgnode.order={order}"] if order else [])])
    inputs = {
        "initrd": initrd_key,
        "cmdline": cmdline,
        "identity": identity.model_dump(),
        "tools": tools_inputs,
        **({"secure_boot": signing.digests()} if signing else {}),
    }

    def make(folder: Path) -> None:
        uki = folder / _INSTALLER
        _ukify(context, tools, identity, kernel, initrd, cmdline, uki)
        if signing:
            sign_program(context.runner, signing, uki, identity.epoch)

    return context.cache.get(Stage("installer-uki", inputs, Path(__file__)), make) / _INSTALLER


def _ukify(
    context: Context,
    tools: Sandbox,
    identity: Identity,
    kernel: Kernel,
    initrd: Path,
    cmdline: str,
    target: Path,
) -> None:
    with context.cache.workspace("uki") as work:
        release = work / "os-release"
        release.write_text(
            f"ID=debian\nVERSION_ID={identity.version}\n"
            f'PRETTY_NAME="{identity.image_id} {identity.version}"\n'
            f"IMAGE_ID={identity.image_id}\nIMAGE_VERSION={identity.version}\n"
        )
        tools.run(
            [
                "/usr/lib/systemd/ukify",
                "build",
                f"--linux={kernel.file}",
                f"--initrd={initrd}",
                f"--cmdline={cmdline}",
                f"--os-release=@{release}",
                f"--uname={kernel.release}",
                f"--output={target}",
            ],
            write=[target.parent, work],
            read=[kernel.file.parent, initrd.parent],
            env={"SOURCE_DATE_EPOCH": str(identity.epoch)},
        )

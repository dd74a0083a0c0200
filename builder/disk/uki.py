"""The unified kernel image: kernel, initrd and sealed command line in one EFI program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.sandbox import Sandbox
from builder.disk.measure import SECTION, PcrSigning, read_measured, sign_measured
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
    pcr: PcrSigning | None = None,
) -> None:
    """Write the UKI to `target` with ukify(1).

    With `pcr` it says what a TPM will have measured of it, signed: a first one is built to know
    that, for the signature itself is not measured. Raises UserError when it cannot be signed.
    """
    kernel, cmdline = Kernel(root.kernel, root.kernel_release), kernel_command_line(spec, root)
    if pcr is None:
        _ukify(context, tools, identity, kernel, initrd, cmdline, target)
        return
    with context.cache.workspace("measured") as work:
        public, signature = work / "public.pem", work / "signature.json"
        public.write_bytes(pcr.public_key.read_bytes())
        more = [f"--pcrpkey={public}"]
        asking, first = [*more, "--measure", "--pcr-banks=sha256"], work / "uki.efi"
        told = _ukify(context, tools, identity, kernel, initrd, cmdline, first, asking)
        signature.write_text(sign_measured(context.runner, pcr, read_measured(told), work))
        more.append(f"--section={SECTION}:@{signature}")
        _ukify(context, tools, identity, kernel, initrd, cmdline, target, more, read=[work])


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
    more: Sequence[str] = (),
    read: Sequence[Path] = (),
) -> str:
    """Write a UKI; `more` are further words, with files below `read`. Return what was told."""
    with context.cache.workspace("uki") as work:
        release = work / "os-release"
        release.write_text(
            f"ID=debian\nVERSION_ID={identity.version}\n"
            f'PRETTY_NAME="{identity.image_id} {identity.version}"\n'
            f"IMAGE_ID={identity.image_id}\nIMAGE_VERSION={identity.version}\n"
        )
        return tools.run(
            [
                "/usr/lib/systemd/ukify",
                "build",
                f"--linux={kernel.file}",
                f"--initrd={initrd}",
                f"--cmdline={cmdline}",
                f"--os-release=@{release}",
                f"--uname={kernel.release}",
                *more,
                f"--output={target}",
            ],
            write=[target.parent, work],
            read=[kernel.file.parent, initrd.parent, *read],
            env={"SOURCE_DATE_EPOCH": str(identity.epoch)},
        ).stdout

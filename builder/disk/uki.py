"""The unified kernel image: kernel, initrd and sealed command line in one EFI program."""

from __future__ import annotations

from pathlib import Path

from builder.core.context import Context
from builder.core.sandbox import Sandbox
from builder.model.artifacts import Identity, RootImage
from builder.model.spec import Spec

# A node that panics or loses PID 1 must reboot, so that boot counting can fall back.
# `gpt`: the second table serves where a power cut has damaged the first.
_CMDLINE = ("ro", "rootfstype=erofs", "gpt", "panic=10", "systemd.crash_reboot=yes", "loglevel=4")


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
                f"--linux={root.kernel}",
                f"--initrd={initrd}",
                f"--cmdline={kernel_command_line(spec, root)}",
                f"--os-release=@{release}",
                f"--uname={root.kernel_release}",
                f"--output={target}",
            ],
            write=[target.parent, work],
            read=[root.kernel.parent, initrd.parent],
            env={"SOURCE_DATE_EPOCH": str(identity.epoch)},
        )

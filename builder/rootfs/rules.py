"""Has the root's own programs read the rules that overlays and site made, before it is sealed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.process import CommandError

# What a build writes, and the program of the root that reads it without loading it: nft(8) -c,
# visudo(8) -c, apparmor_parser(8) -Q.
_READERS: Sequence[tuple[str, Sequence[str]]] = (
    ("etc/nftables.conf", ("/usr/sbin/nft", "-c", "-f")),
    ("etc/sudoers", ("/usr/sbin/visudo", "-c", "-f")),
    ("etc/apparmor.d/imgnode-vllm", ("/usr/sbin/apparmor_parser", "-Q", "-K")),
)


def check_rules(context: Context, root: Path) -> None:
    """Raise UserError for rules that their program does not take; files that are not there pass.

    nft asks the build host's kernel, in an empty network of its own: it must know nf_tables.
    """
    for name, argv in _READERS:
        if not (root / name).is_file():
            continue
        try:
            context.runner.run(["unshare", "--net", "chroot", root, *argv, f"/{name}"])
        except CommandError as error:
            raise UserError(
                f"/{name} of the image is not accepted: {error}",
                hint="an overlay makes it, of values of site and profile; for nft, this host's "
                "kernel needs nf_tables",
            ) from error

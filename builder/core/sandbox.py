"""Runs programs of the tools tree, apart from the build host's own.

bubblewrap shows the program the tools tree read-only, the folders it is given, and no
network: nothing can be fetched that the lock does not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.hashing import sha256_file
from builder.core.process import Finished, Runner


def tied(argv: Sequence[str | Path]) -> list[str | Path]:
    """Return the command that runs `argv`, a program of the build host, tied to this process.

    When it ends, or imgbuild does, even by SIGKILL, all that it has started ends too.
    """
    words = ["bwrap", "--die-with-parent", "--unshare-pid", "--dev-bind", "/", "/"]
    return [*words, "--proc", "/proc", "--cap-add", "ALL", "--", *argv]


@dataclass(frozen=True)
class Sandbox:
    """A tools tree and the runner that starts its programs."""

    tools: Path
    runner: Runner

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        write: Sequence[Path] = (),
        read: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        privileged: bool = False,
    ) -> Finished:
        """Run a program of the tools tree; the folders appear under their own names.

        `privileged` keeps root's capabilities and device nodes (for mmdebstrap, chroot).
        Raises CommandError as Runner.run does.
        """
        words: list[str | Path] = [*self._frame(privileged=privileged)]
        for path in read:
            words += ["--ro-bind", path, path]
        for path in write:
            words += ["--dev-bind" if privileged else "--bind", path, path]
        return self.runner.run([*words, "--", *argv], env=env, stdin=stdin, called=str(argv[0]))

    def digest(self, *files: str) -> list[str]:
        """Return digests of files of the tree, for keys of what depends on these alone."""
        return [sha256_file(self.tools / name) for name in files]

    def _frame(self, *, privileged: bool) -> list[str | Path]:
        words: list[str | Path] = ["bwrap", "--die-with-parent", "--unshare-net", "--unshare-ipc"]
        words.append("--unshare-pid")  # what a program leaves running ends with it
        for name in ("usr", "etc", "var/lib/dpkg"):
            words += ["--ro-bind", self.tools / name, f"/{name}"]
        for name in ("bin", "sbin", "lib", "lib64"):
            words += ["--symlink", f"usr/{name}", f"/{name}"]
        for name in ("/tmp", "/run", "/var/tmp"):  # noqa: S108 - inside the sandbox
            words += ["--tmpfs", name]
        words += ["--proc", "/proc"]
        if privileged:
            return [*words, "--dev-bind", "/dev", "/dev", "--cap-add", "ALL"]
        return [*words, "--dev", "/dev"]

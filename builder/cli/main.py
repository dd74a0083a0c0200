"""The command `imgbuild`: joins the rooms, turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType

import click

from builder import __version__
from builder.core.errors import UserError
from builder.core.process import NO_SPACE_HINT

_COMMANDS = {
    "boot": "builder.cli.boot",
    "build": "builder.cli.build",
    "cache": "builder.cli.cache",
    "diff": "builder.cli.diff",
    "doctor": "builder.cli.doctor",
    "flash": "builder.cli.flash",
    "fleet": "builder.cli.fleet",
    "installer": "builder.cli.installer",
    "keys": "builder.cli.keys",
    "lock": "builder.cli.lock",
    "orders": "builder.cli.orders",
    "profiles": "builder.cli.profiles",
    "promote": "builder.cli.promote",
    "rebuild": "builder.cli.rebuild",
    "release": "builder.cli.release",
    "report": "builder.cli.report",
    "sbom": "builder.cli.sbom",
    "seed": "builder.cli.seed",
    "serve": "builder.cli.serve",
    "show": "builder.cli.show",
    "sizes": "builder.cli.sizes",
    "verify": "builder.cli.verify",
}


class _Lazy(click.Group):
    """Imports a command's module only when it is called: `imgbuild build` starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the help text."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command by name, or None."""
        if cmd_name not in _COMMANDS:
            return None
        module = __import__(_COMMANDS[cmd_name], fromlist=["command"])
        command: click.Command = module.command
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imgbuild")
def imgbuild() -> None:
    """Render versioned, immutable Debian images for GPU inference nodes."""


def entry() -> None:
    """Run the command line; exit 0 done, 1 a failed check, 2 something the user can mend."""
    os.umask(0o022)  # the modes of an image's files must not depend on who builds it
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        # click returns, not raises, the status of click.exceptions.Exit here.
        sys.exit(imgbuild.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UserError as error:
        _tell(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _tell("interrupted; nothing half-written is left")
        sys.exit(2)
    except OSError as error:
        _tell(_os_error(error))
        sys.exit(2)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(text: str) -> None:
    for number, line in enumerate(text.splitlines()):
        print(line if number else f"imgbuild: {line}", file=sys.stderr)


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{where}no space left on the disk (hint: {NO_SPACE_HINT})"
    return f"{where}{error.strerror or error}"


if __name__ == "__main__":
    entry()

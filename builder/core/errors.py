"""The two kinds of failure a command can end with.

Exit codes: 0 done, 1 a fault of imgbuild or of the tested image, 2 something the
user or the build host can mend (input, configuration, mirror, disk, interrupt).
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend; ends the command with exit code 2.

    `what` says what is wrong and where, `hint` what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Return the fact, followed by the hint in brackets where there is one."""
        return f"{self.what} (hint: {self.hint})" if self.hint else self.what


class ConfigError(UserError):
    """All the errors of one or more configuration files at once.

    Every problem is one `file: path: fact (hint: …)` line.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Interrupted(UserError):
    """Ctrl-C or SIGTERM ended the command; nothing half-written is left."""

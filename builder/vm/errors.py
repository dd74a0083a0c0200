"""Faults of a virtual machine: the tested image or QEMU is to blame, not the user."""

from __future__ import annotations


class VmError(Exception):
    """The machine did not do what was asked; ends a command with exit code 1."""

    exit_code = 1


class VmTimeout(VmError):
    """Something did not happen in time; the message ends with the last serial lines."""


class VmExited(VmError):
    """QEMU ended although the machine was expected to run."""


class HostKeyChanged(VmError):
    """The node shows another SSH host key than at the first connection."""

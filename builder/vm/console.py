"""The machine's serial console on this terminal, until the escape key."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.vm.machine import Machine

ESCAPE = b"\x1d"  # Ctrl-]
_CHUNK = 4096
_POLL_S = 0.5


def attach(machine: Machine) -> None:
    """Join terminal and console; return on Ctrl-] or when the machine ends.

    Standard input must be a terminal; its settings are restored in all cases.
    """
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    settings = termios.tcgetattr(keyboard)
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(machine.paths.serial_socket))
        try:
            tty.setraw(keyboard)
            _bridge(machine, console, keyboard, screen)
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, settings)


def _bridge(machine: Machine, console: socket.socket, keyboard: int, screen: int) -> None:
    while machine.running():
        ready, _, _ = select.select([console, keyboard], [], [], _POLL_S)
        if console in ready:
            output = console.recv(_CHUNK)
            if not output:
                return
            os.write(screen, output)
        if keyboard in ready:
            typed = os.read(keyboard, _CHUNK)
            if ESCAPE in typed:
                return
            console.sendall(typed)

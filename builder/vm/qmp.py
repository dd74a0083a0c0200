"""One command to a running QEMU through its control socket (QMP)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qemu.qmp import ExecuteError, QMPClient, QMPError

from builder.vm.errors import VmError

if TYPE_CHECKING:
    from pathlib import Path


def qmp(
    socket: Path,
    command: str,
    arguments: Mapping[str, object] | None = None,
    timeout_s: float = 10.0,
) -> object:
    """Connect to `socket`, execute `command`, and return QEMU's answer.

    One connection per command: QEMU takes one client at a time. Raises VmError when
    QEMU refuses the command, does not answer within `timeout_s` seconds or is gone.
    """
    try:
        return asyncio.run(asyncio.wait_for(_execute(socket, command, arguments), timeout_s))
    except ExecuteError as error:
        raise VmError(f"QEMU refused {command}: {error}") from error
    except TimeoutError:
        raise VmError(f"QEMU did not answer {command} in {timeout_s:g} s") from None
    except (QMPError, OSError) as error:
        raise VmError(f"QEMU's control channel failed during {command}: {error}") from error


async def _execute(socket: Path, command: str, arguments: Mapping[str, object] | None) -> object:
    client = QMPClient("imgbuild")
    await client.connect(str(socket))
    try:
        return await client.execute(command, dict(arguments or {}))
    finally:
        await client.disconnect()

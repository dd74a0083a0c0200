"""One installer as a program: the real one, with a file as its disk (tests/unit/install_room.py).

python -m tests.provision.node FOLDER SERVER NUMBER KEY
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imgnode import process
from imgnode.install import __main__ as entry
from imgnode.install import run
from imgnode.install import var as var_
from imgnode.release.signature import KEYRING
from tests.unit.install_room import SIZE, Machine
from tests.unit.update_node import Server as Releases


def prepare(folder: Path, server: str, number: str, public: bytes) -> Machine:
    """Return a machine with an empty disk whose installer believes a key."""
    root, disk = folder / "root", folder / "disk"
    for name in ("usr/lib/imgnode/esp/EFI/BOOT", "sys/class/dmi/id", "proc"):
        (root / name).mkdir(parents=True)
    (root / "usr/lib/imgnode/esp/EFI/BOOT/BOOTX64.EFI").write_text("loader")
    (root / "sys/class/dmi/id/product_serial").write_text(f"S{number}\n")
    (root / "proc/cmdline").write_text(f"quiet imgnode.order=http://{server}/order roothash=0\n")
    (root / KEYRING).write_bytes(public)
    with disk.open("wb") as stream:
        stream.truncate(SIZE)
    return Machine(root, disk, Releases(folder))


def main(argv: Sequence[str]) -> int:
    """Install as the server says, and share; the last act of an installer is not played."""
    folder, server, number, key = Path(argv[0]), argv[1], argv[2], Path(argv[3])
    machine = prepare(folder, server, number, key.read_bytes())

    def play(argv: Sequence[str], **more: Any) -> process.Finished:  # noqa: ANN401
        if argv[0].endswith("wait-online") or argv[0] in ("systemctl", "sync"):
            return process.Finished(0, "", "")
        return machine.run(argv, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "run", play)
        patch.setattr(var_, "mounted", machine.mounted)
        patch.setattr(run, "list_disks", machine.disks)
        patch.setattr(entry, "_PAUSE_S", 1)
        return entry.main(machine.root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

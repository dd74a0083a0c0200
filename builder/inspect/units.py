"""Systemd units of a tree: which are started, and what each says (systemd.unit(5))."""

from __future__ import annotations

from pathlib import Path

from builder.core.hashing import sha256_value
from builder.model.inventory import Port, Unit, UnitState

_PLACES = ("etc/systemd/system", "usr/lib/systemd/system")  # the first one wins
_ENDS = {
    ".automount", ".device", ".mount", ".path", ".scope", ".service", ".slice", ".socket", ".swap",
    ".target", ".timer",
}  # fmt: skip
_NULL = "/dev/null"


def read_units(root: Path) -> dict[str, Unit]:
    """Return every unit by name, sorted."""
    wanted = _wanted(root)
    found: dict[str, Path] = {}
    for place in _PLACES:
        for path in sorted((root / place).glob("*")):
            if path.suffix in _ENDS and (path.is_symlink() or path.is_file()):
                found.setdefault(path.name, path)
    return {name: _unit(root, path, name in wanted) for name, path in sorted(found.items())}


def _wanted(root: Path) -> set[str]:
    """Return the names that some unit's .wants or .requires folder has."""
    return {
        link.name
        for place in _PLACES
        for kind in ("wants", "requires")
        for link in (root / place).glob(f"*.{kind}/*")
    }


def _unit(root: Path, path: Path, wanted: bool) -> Unit:
    if path.is_symlink():
        target = str(path.readlink())
        if target == _NULL:
            return Unit(state="masked", content="")
        if Path(target).name != path.name:
            return Unit(state="alias", content=Path(target).name)
    text = _text(root, path)
    return Unit(state=_state(text, wanted), content=sha256_value([text, *_drop_ins(root, path)]))


def _state(text: str, wanted: bool) -> UnitState:
    if wanted:
        return "enabled"
    return "disabled" if "\n[Install]" in text else "static"


def _text(root: Path, path: Path) -> str:
    """Return a unit's text; a link is followed inside the tree."""
    for _ in range(8):
        if not path.is_symlink():
            break
        target = path.readlink()
        path = root / str(target).lstrip("/") if target.is_absolute() else path.parent / target
    return path.read_text(errors="replace") if path.is_file() else ""


def _drop_ins(root: Path, path: Path) -> list[str]:
    parts = [
        part for place in _PLACES for part in sorted((root / place).glob(f"{path.name}.d/*.conf"))
    ]
    return [f"{part.relative_to(root)}\n{_text(root, part)}" for part in parts]


_LISTEN = {
    "ListenStream": "tcp",
    "ListenDatagram": "udp",
    "ListenSequentialPacket": "unix",
    "ListenFIFO": "fifo",
}


def socket_ports(root: Path, units: dict[str, Unit]) -> list[Port]:
    """Return where the socket units that may be started listen (systemd.socket(5))."""
    found = []
    for name, unit in units.items():
        template = name.endswith("@.socket")
        if not name.endswith(".socket") or template or unit.state not in ("enabled", "static"):
            continue
        path = next(p for p in (root / place / name for place in _PLACES) if p.exists())
        for line in _text(root, path).splitlines():
            key, _, value = line.partition("=")
            where = value.strip()
            if key.strip() in _LISTEN and where:
                local = where.startswith(("/", "@", "%"))
                protocol = "unix" if local else _LISTEN[key.strip()]
                found.append(Port(protocol=protocol, port=where, by=name))
    return found

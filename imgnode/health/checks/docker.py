"""Docker: answers in time, on its socket, without a child."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import loopback
from imgnode.gate import systemd
from imgnode.health.container import SOCKET
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.payload import read_payload
from imgnode.serve.facts import read_json

NAME = "docker"
UNIT = "docker.service"
_ASK_S = 10.0
_LOOKS = 2  # in a row: it restarts by itself, and takes seconds to come up
_UNKNOWN = 404
_HINT = "systemctl status docker containerd; journalctl -b -u docker"
_TOLD = Path("run/imgnode/serve.json")


def read_unit() -> Mapping[str, str]:
    """Return how systemd sees Docker. Raises OSError when it does not answer."""
    return systemd.properties(UNIT, "ActiveState", "Job")


@dataclass
class DockerCheck:
    """Whether Docker does what it is asked. It is asked for the container, whose lock may hang."""

    root: Path = Path("/")
    ask: Callable[..., loopback.Answer] = loopback.ask
    unit: Callable[[], Mapping[str, str]] = read_unit
    name: str = NAME
    every_s: float = 20.0
    _wrong: int = field(init=False, default=0)

    def supported(self) -> bool:
        """Tell whether this image carries a container."""
        return read_payload(self.root).container is not None

    def look(self, now: float) -> list[Finding]:  # noqa: ARG002 - looks are counted
        """Look once: up to ten seconds. Raises OSError when systemd does not answer."""
        found = self._asked()
        self._wrong = self._wrong + 1 if found else 0
        if found and self._wrong >= _LOOKS and not self._comes_up():
            return [found]
        return [] if found else self._image()

    def _asked(self) -> Finding | None:
        try:
            self.ask(self.root / SOCKET, "/containers/vllm/json", limit_s=_ASK_S)
        except TimeoutError:
            fact = f"Docker takes connections and does not answer within {_ASK_S:g} s"
            return Finding(NAME, "hung", Level.FAILED, fact, _HINT, Remedy.DOCKER)
        except OSError as error:
            fact = f"Docker does not take connections: {error.strerror or error}"
            return Finding(NAME, "dead", Level.FAILED, fact, _HINT, Remedy.DOCKER)
        return None

    def _comes_up(self) -> bool:
        """Tell whether systemd is starting it just now: its socket waits meanwhile."""
        unit = self.unit()
        return unit["ActiveState"] in ("activating", "reloading") or systemd.has_job(unit)

    def _image(self) -> list[Finding]:
        """Tell of a store that has lost the image: what runs goes on, the next start mends it."""
        container = read_payload(self.root).container
        if container is None or (read_json(self.root / _TOLD) or {}).get("image_copied", True):
            return []
        try:
            answer = self.ask(
                self.root / SOCKET, f"/images/{container.reference}/json", limit_s=_ASK_S
            )
        except OSError:
            return []
        if answer.status != _UNKNOWN:
            return []
        hint = "imgnode layers status; imgnode layers apply, then systemctl restart docker"
        fact = f"Docker does not know {container.reference}"
        return [Finding(NAME, "image", Level.WARNING, fact, hint)]

"""One actor at a time: a lock that says who has it, and that no crash leaves behind (flock(2))."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

# Whoever writes a slot, restarts what serves, or reboots: updates and recovery.
CHANGE = Path("run/imgnode/update.lock")
# Held while a boot is judged, by any number of gates.
GATE = Path("run/imgnode/gate.lock")


class Lock:
    """A lock of this process; it goes when the process ends, in whatever way."""

    def __init__(self, name: Path, root: Path = Path("/")) -> None:
        self._path = root / name
        self._stream: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether we have it."""
        return self._stream is not None

    def share(self, who: str) -> None:
        """Take it together with others, waiting for whoever just looks. Raises OSError."""
        self._take(who, fcntl.LOCK_SH)

    def take(self, who: str) -> str | None:
        """Take it alone and at once; return None, or who has it. Raises OSError for a full /run."""
        return self._take(who, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _take(self, who: str, how: int) -> str | None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        stream = self._path.open("a+")
        try:
            fcntl.flock(stream, how)
        except BlockingIOError:
            with stream:
                stream.seek(0)
                return stream.read().strip() or "another program"
        stream.truncate(0)
        stream.write(who)
        stream.flush()
        self._stream = stream
        return None

    def release(self) -> None:
        """Let it go, where we have it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def holder(name: Path, root: Path = Path("/")) -> str | None:
    """Return who has a lock now, None where nobody has."""
    lock = Lock(name, root)
    try:
        return lock.take("a look")
    except OSError:
        return None
    finally:
        lock.release()

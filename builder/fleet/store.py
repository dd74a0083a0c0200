"""What the control machine remembers: plain files, so that a killed run can be gone on with.

`job.json` is the present or last job, `jobs/NAME.json` those before; `status.json` what nodes said
last; `pause` and `abort` are there while somebody wants that; `lock` is held by whoever works.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.fleet.job import Job

PAUSE, ABORT = "pause", "abort"


@dataclass(frozen=True)
class Store:
    """The files below one folder."""

    folder: Path

    @contextmanager
    def lock(self, who: str) -> Iterator[None]:
        """Keep other runs away; it goes when the process ends, in whatever way (flock(2)).

        Raises UserError while another run works.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "somebody"
                fact = f"{self.folder}: another run goes on: {holder}"
                raise UserError(fact, hint="wait for it, or imgbuild fleet pause") from None
            stream.seek(0)
            stream.truncate()
            stream.write(f"{who}\n")
            stream.flush()
            yield

    def busy(self) -> bool:
        """Tell whether another run works just now."""
        try:
            with (self.folder / "lock").open() as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def load(self) -> Job | None:
        """Return the present or last job. Raises UserError for a file that is damaged."""
        path = self.folder / "job.json"
        try:
            return Job.model_validate_json(path.read_text())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            fact = f"{path}: cannot be understood: {error.errors()[0]['msg']}"
            raise UserError(
                fact, hint="move it away; nodes know themselves what they run"
            ) from None

    def save(self, job: Job) -> None:
        """Write the job, in one step."""
        write_atomic(self.folder / "job.json", job.model_dump_json(indent=1) + "\n")

    def begin(self, job: Job) -> None:
        """Put a new job in the place of one that is over. Raises UserError for one that is not."""
        before = self.load()
        if before is not None:
            if not before.over:
                fact = f"{before.kind} {before.name} is not over: {before.stands(busy=False)}"
                raise UserError(fact, hint="imgbuild fleet resume, or imgbuild fleet abort")
            text = before.model_dump_json(indent=1)
            write_atomic(self.folder / "jobs" / f"{before.name}.json", f"{text}\n")
        for wish in (PAUSE, ABORT):
            self.forget(wish)
        self.save(job)

    def wish(self, what: str) -> None:
        """Leave a wish for whoever works: PAUSE or ABORT."""
        write_atomic(self.folder / what, "")

    def wished(self, what: str) -> bool:
        """Tell whether somebody wants that."""
        return (self.folder / what).exists()

    def forget(self, what: str) -> None:
        """Take a wish back."""
        (self.folder / what).unlink(missing_ok=True)

    def keep_status(self, told: dict[str, Any]) -> None:
        """Keep what nodes said."""
        write_atomic(self.folder / "status.json", json.dumps(told) + "\n")

    def status(self) -> dict[str, Any] | None:
        """Return what nodes said last; None where that is not known."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
        except (OSError, ValueError):
            return None
        return found

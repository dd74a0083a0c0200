"""The reports of an installer (imgnode.install.report), and what follows from them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.serve.records import Fault, Record, State

MOST_BYTES = 64 * 1024
_SHOWN = 200
_SMOOTH = 0.3  # how much of a rate the newest report makes
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Short = Annotated[str, Field(max_length=_SHOWN)]


class _Open(BaseModel):
    """A newer installer may say more than this server knows."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Problem(_Open):
    """Why it failed."""

    kind: str
    text: str | None = None


class Report(_Open):
    """One report: bytes of the phase, and an error where the phase is `failed`."""

    schema_version: Literal[1]
    phase: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,40}$")]
    done: Count = 0
    total: Count = 0
    version: Annotated[str, Field(max_length=64)] | None = None
    disk: Short | None = None
    error: Problem | None = None


def parse_report(data: bytes) -> Report | None:
    """Return a report; None for what is none."""
    try:
        return Report.model_validate_json(data)
    except ValidationError:
        return None


def apply(record: Record, said: Report, now: float) -> Record:
    """Return what is known of a node after a report."""
    state: State = "installing"
    if said.phase in ("done", "failed"):
        state = "done" if said.phase == "done" else "failed"
    same = said.phase == record.phase
    fault = None
    if said.error:
        text = _line(said.error.text or "")
        fault = Fault(kind=_line(said.error.kind)[:40], text=text[:2000])
    told: dict[str, object] = {
        "state": state,
        "why": "",
        "phase": record.phase if state == "failed" else said.phase,  # where it failed
        "done": said.done,
        "total": said.total,
        "version": said.version and _line(said.version),
        "disk": said.disk and _line(said.disk),
        "error": fault,
        "seen": now,
        "ended": now if state in ("done", "failed") else 0.0,
        "rate": _rate(record, said, now) if same else 0.0,
    }
    return record.model_copy(update=told)


def _rate(record: Record, said: Report, now: float) -> float:
    passed = now - record.seen
    if passed <= 0 or said.done < record.done:
        return record.rate
    newest = (said.done - record.done) / passed
    return newest if not record.rate else record.rate + _SMOOTH * (newest - record.rate)


def _line(text: str) -> str:
    """Return what can be printed: it reaches terminals and pages."""
    return "".join(one if one.isprintable() else " " for one in text).strip()

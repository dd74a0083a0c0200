"""The bills of materials that lie beside an image: SPDX and CycloneDX."""

from __future__ import annotations

import uuid
from pathlib import Path

from builder.core.files import write_atomic
from builder.model.artifacts import CYCLONEDX, SPDX
from builder.model.bill import Bill
from builder.sbom.cyclonedx import cyclonedx_json
from builder.sbom.spdx import spdx_json

_NAMESPACE = uuid.UUID("5c9f0e0d-3f63-4a3b-9d7e-1f6f7c0a2b11")


def write_bills(folder: Path, bill: Bill) -> None:
    """Write both documents into `folder`, each in one step; equal bills give equal bytes."""
    for name, text in (
        (SPDX, spdx_json(bill, _NAMESPACE)),
        (CYCLONEDX, cyclonedx_json(bill, _NAMESPACE)),
    ):
        write_atomic(folder / name, text, 0o444)

"""`python -m monitoring` writes the dashboards and the page of metrics."""

from __future__ import annotations

from pathlib import Path

from monitoring import dashboards, reference

ROOT = Path(__file__).parents[1]


def files() -> dict[Path, str]:
    """Return all that is made, by its place in the project."""
    made = {Path("monitoring/dashboards") / name: text for name, text in dashboards.texts().items()}
    return {**made, Path("docs/reference/metrics.md"): reference.text()}


def write() -> None:
    """Write all of it."""
    for path, text in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

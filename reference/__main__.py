"""`python -m reference` writes what is made of the code, below docs/reference/."""

from __future__ import annotations

from pathlib import Path

from reference import alerts, keys, programs

ROOT = Path(__file__).parents[1]
PLACE = Path("docs/reference")


def files() -> dict[Path, str]:
    """Return all that is made, by its place in the project."""
    made = {PLACE / name: text for name, text in keys.pages().items()}
    made[PLACE / "alerts.md"] = alerts.page(ROOT)
    made |= {PLACE / "man" / name: text for name, text in programs.man_pages().items()}
    return made | {PLACE / "completion" / name: t for name, t in programs.completions().items()}


def write() -> None:
    """Write all of it, and remove man pages of commands that are gone."""
    made = files()
    for path in (ROOT / PLACE / "man").glob("*.1"):
        if path.relative_to(ROOT) not in made:
            path.unlink()
    for path, text in made.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

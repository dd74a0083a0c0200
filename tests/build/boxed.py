"""A project with a small container and a small model bundle, for the tests of both."""

from __future__ import annotations

from tests.build.command import Place

PROFILE = """\
extends: bare
description: a small container
container: recipe:box
models: [toy]
"""
RECIPE = """\
description: a small box
packages: [python3]
requirements: [installer==0.7.0, pyyaml==6.0.2]
layers:
  - {name: one, wheels: [installer]}
  - {name: rest, wheels: ['*']}
entrypoint: [python3]
env: {BOX: small}
"""
BUNDLE = """\
description: a toy
model: org/toy
requirements: [installer==0.7.0]
"""
CONVERT = """\
import pathlib, sys

wheels, out = map(pathlib.Path, sys.argv[1:])
assert (wheels / "installer").is_dir()
(out / "config.json").write_text("{}")
"""
WARM = """\
import pathlib, sys

import yaml

pathlib.Path(sys.argv[1], "known.yaml").write_text(yaml.safe_dump({"warm": True}))
"""
FILES = {
    "config/profiles/boxed.yaml": PROFILE,
    "image/containers/box/recipe.yaml": RECIPE,
    "image/containers/box/warm.py": WARM,
    "image/models/toy/recipe.yaml": BUNDLE,
    "image/models/toy/convert.py": CONVERT,
}


def add_box(place: Place) -> None:
    """Add the profile and what it names to a project whose rooms are its own."""
    for name, text in FILES.items():
        place.write(name, text)

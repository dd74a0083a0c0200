"""A project with a small container and small model bundles, for the tests of both.

The container holds little, or a stand-in for vLLM: then the profile is a node that serves.
"""

from __future__ import annotations

from tests.build.command import Place
from tests.build.standin import STAND_IN

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
description: a small model
model: org/{name}
requirements: [installer==0.7.0]
"""
CONVERT = """\
import pathlib, sys

wheels, out = map(pathlib.Path, sys.argv[1:])
assert (wheels / "installer").is_dir()
(out / "config.json").write_text('{{"model_type": "{name}"}}')
"""
WARM = """\
import pathlib, sys

import yaml

pathlib.Path(sys.argv[1], "known.yaml").write_text(yaml.safe_dump({"warm": True}))
"""
NODE = """\
extends: {extends}
description: a small container with a stand-in for vLLM
container: recipe:box
models: [{models}]
{more}"""
ENTRY = "entrypoint: [python3, /usr/local/share/imgnode/cache/server.py]"


def add_box(place: Place) -> None:
    """Add profile `boxed` and what it names to a project whose rooms are its own."""
    place.write("config/profiles/boxed.yaml", PROFILE)
    _add_parts(place, RECIPE, WARM)
    add_model(place, "toy")


def add_node(
    place: Place,
    server: str = STAND_IN,
    *,
    name: str = "boxed",
    extends: str = "cpu",
    models: tuple[str, ...] = ("toy",),
    more: str = "",
) -> None:
    """Add a profile whose container runs `server`, a program.

    `extends` is what the node is but for its container, `models` are the bundles that it has,
    `more` are further keys of the profile.
    """
    profile = NODE.format(extends=extends, models=", ".join(models), more=more)
    place.write(f"config/profiles/{name}.yaml", profile)
    warm = "import pathlib, sys\n\n"
    warm += f"pathlib.Path(sys.argv[1], 'server.py').write_text({server!r})\n"
    _add_parts(place, RECIPE.replace("entrypoint: [python3]", ENTRY), warm)
    for model in models:
        add_model(place, model)


def add_model(place: Place, name: str) -> None:
    """Add the bundle of a model `org/NAME`, whose configuration tells its name."""
    place.write(f"image/models/{name}/recipe.yaml", BUNDLE.format(name=name))
    place.write(f"image/models/{name}/convert.py", CONVERT.format(name=name))


def _add_parts(place: Place, recipe: str, warm: str) -> None:
    place.write("image/containers/box/recipe.yaml", recipe)
    place.write("image/containers/box/warm.py", warm)

"""What an image brings along for its cache: worked out once, when it is built.

A recipe may have a `warm.py`. It runs in the finished container and fills a folder, which
becomes the topmost layer; a node copies it into the cache folder of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.containers.inside import inside
from builder.containers.pack import TAR, normalise, pack
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox

WARM_LAYER = "warm"
_SCRIPT = "warm.py"
_PLACE = "usr/local/share/imgnode/cache"  # imgnode/serve/cache.py copies from there


def build_warm(
    context: Context, tools: Sandbox, folder: Path, tars: Sequence[Path], digests: Sequence[str]
) -> Path | None:
    """Return the tar of the topmost layer, or None where the recipe in `folder` wants none.

    `tars` are the layers below, lowest first, and `digests` their SHA-256.
    """
    script = folder / _SCRIPT
    if not script.is_file():
        return None
    inputs = {"script": sha256_file(script), "below": list(digests), "tar": tools.digest(TAR)}

    def make(result: Path) -> None:
        with context.cache.workspace(WARM_LAYER) as work, inside(context, tools, tars) as root:
            tree = work / "tree"
            (tree / _PLACE).mkdir(parents=True)
            root.run(script, {"out": tree / _PLACE}, ["/mnt/out"], {})
            normalise(tree)
            pack(tools, tree, result / "layer.tar")

    return context.cache.get(Stage(WARM_LAYER, inputs, Path(__file__).parent), make) / "layer.tar"

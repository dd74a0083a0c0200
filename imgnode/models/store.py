"""Where models lie on the node: bundles of this version, fetched ones, folders put there by hand.

A bundle is mounted on /run/imgnode/layers/ROOT_HASH. A fetched one lies in
/var/lib/imgnode/models/ORG--NAME/REVISION and has `.imgnode.json`, which is written last.
One by hand lies in ORG--NAME or below it, has a config.json and no such file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgnode.layers.mounts import place
from imgnode.payload import ModelBundle, Payload
from imgnode.serve.facts import read_json

FOLDER = Path("var/lib/imgnode/models")
MANIFEST = ".imgnode.json"
PART = ".part"
MAIN = "main"
BUNDLE, FETCHED, BY_HAND = "bundle", "fetched", "by hand"
_CONFIG = "config.json"


@dataclass(frozen=True)
class Weights:
    """A model on this node; `revision` is None where nobody knows it. `bytes` of its files."""

    model: str
    revision: str | None
    path: Path
    source: str

    @property
    def bytes(self) -> int:
        """How much it takes."""
        return sum(one.stat().st_size for one in self.path.rglob("*") if one.is_file())


def find(model: str, revision: str | None, payload: Payload, root: Path) -> Weights | None:
    """Return the model if it is on this node: a bundle first, then fetched, then by hand."""
    for bundle in payload.models:
        if bundle.model == model and revision in (None, bundle.revision):
            weights = _bundle(bundle, root)
            if (weights.path / _CONFIG).is_file():
                return weights
    exact = fetched_folder(model, revision, root)
    if manifest_fits(exact, model, revision or MAIN):
        return Weights(model, revision or MAIN, exact, FETCHED)
    for folder in (exact, exact.parent):
        if (folder / _CONFIG).is_file() and not (folder / MANIFEST).exists():
            return Weights(model, revision if folder == exact else None, folder, BY_HAND)
    return None


def unmounted_bundle(model: str, revision: str | None, payload: Payload, root: Path) -> bool:
    """Tell whether the model belongs to this version but is not where it should be."""
    return any(
        one.model == model
        and revision in (None, one.revision)
        and not (_bundle(one, root).path / _CONFIG).is_file()
        for one in payload.models
    )


def fetched_folder(model: str, revision: str | None, root: Path) -> Path:
    """Return where a model lies once it has been fetched; `/` in names becomes `--`."""
    return root / FOLDER / _flat(model) / _flat(revision or MAIN)


def manifest_fits(folder: Path, model: str, revision: str) -> bool:
    """Tell whether a folder holds exactly this model, complete."""
    kept = read_json(folder / MANIFEST) or {}
    return kept.get("model") == model and kept.get("revision") == revision


def manifest(model: str, revision: str, facts: Mapping[str, object]) -> str:
    """Return the text of the file that marks a folder as complete."""
    return json.dumps({"model": model, "revision": revision, **facts}, indent=1) + "\n"


def everything(payload: Payload, root: Path) -> Iterator[Weights]:
    """Yield every model on this node."""
    yield from (_bundle(one, root) for one in payload.models)
    for folder in sorted((root / FOLDER).glob("*")):
        model = folder.name.replace("--", "/", 1)
        if (folder / _CONFIG).is_file():
            yield Weights(model, None, folder, BY_HAND)
        for inner in sorted(folder.glob("*")):
            kept = read_json(inner / MANIFEST)
            if kept:
                names = str(kept.get("model")), str(kept.get("revision"))
                yield Weights(*names, inner, FETCHED)
            elif inner.suffix != PART and (inner / _CONFIG).is_file():
                yield Weights(model, inner.name, inner, BY_HAND)


def _bundle(one: ModelBundle, root: Path) -> Weights:
    return Weights(one.model, one.revision, place(one.root_hash, root), BUNDLE)


def _flat(name: str) -> str:
    return name.replace("/", "--")

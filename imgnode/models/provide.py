"""Makes sure that a model is on this node."""

from __future__ import annotations

from pathlib import Path

from imgnode.fault import CONFIG, DISK, IMAGE, Fault
from imgnode.models.fetch import Tell, fetch
from imgnode.models.mirror import Mirror
from imgnode.models.store import FOLDER, Weights, find, unmounted_bundle
from imgnode.payload import Payload


def provide(
    model: str,
    revision: str | None,
    payload: Payload,
    mirror: Mirror | None,
    root: Path,
    tell: Tell = print,
) -> Weights:
    """Return the model's place on this node, fetched if need be. Raises Fault."""
    found = find(model, revision, payload, root)
    if found is not None:
        return found
    lost = unmounted_bundle(model, revision, payload, root)
    if mirror is not None:
        try:
            return fetch(model, revision, mirror, root, tell)
        except OSError as error:
            raise Fault(DISK, f"cannot write {model} to /var: {error.strerror}") from error
    if lost:
        fact = f"the model {model} belongs to this version, but is not mounted"
        raise Fault(IMAGE, fact, "imgnode layers status")
    which = f"{model} ({revision})" if revision else model
    bundles = ", ".join(one.model for one in payload.models) or "none"
    folder = f"/{FOLDER}/{model.replace('/', '--')}"
    hint = f"bundles: {bundles}; or put it into {folder}, or name a mirror in the site (models)"
    raise Fault(CONFIG, f"the model {which} is not on this node, and the site has no mirror", hint)

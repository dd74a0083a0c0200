"""Why an update is not taken: its kind, the fact, and what to do about it."""

from __future__ import annotations

SIGNATURE = "signature"  # not signed by a key of this image
DAMAGED = "damaged"  # not what was signed
EXPIRED = "expired"  # the channel's file, or this node's clock
REPLAYED = "replayed"  # an older channel file than one seen before
OLDER = "older"  # a downgrade that nobody asked for
FAILED_HERE = "failed-here"  # this version did not come up on this node
OTHER_IMAGE = "other-image"
TOO_LARGE = "too-large"  # for this disk's slots
SPACE = "space"
FETCH = "fetch"  # the server does not answer, or not with the file
BUSY = "busy"  # another run, or the running version is on trial
SITE = "site"  # the image names no release server
WRITE = "write"  # the slot could not be written
KINDS = (
    *(SIGNATURE, DAMAGED, EXPIRED, REPLAYED, OLDER, FAILED_HERE, OTHER_IMAGE, TOO_LARGE),
    *(SPACE, FETCH, BUSY, SITE, WRITE),
)


class Refused(Exception):
    """One reason. Nothing of what runs, and nothing of the other slot, was changed for it."""

    def __init__(self, kind: str, fact: str, hint: str | None = None) -> None:
        super().__init__(f"{fact} (hint: {hint})" if hint else fact)
        self.kind = kind

"""Checks channels and versions of a repository against a keyring and nothing else.

First who signed, then whether every byte is the one that was signed, then whether what it says
is true: nothing is unpacked that the keyring does not vouch for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from builder.core.context import Context
from builder.core.files import scratch
from builder.core.gpg import check_signature
from builder.core.hashing import sha256_file
from builder.model.release import Channel
from builder.release.content import check_content
from builder.release.repository import (
    SIGNATURE,
    SUMS,
    Repository,
    reason,
)
from imgnode.release.signature import BadSignature, split_signed
from imgnode.release.sums import parse_sums
from imgnode.release.versions import is_older

_SMALL = 1 << 20  # bytes that a list, a channel or a signature may have


@dataclass(frozen=True)
class Problem:
    """Something that is not good: the file below the repository, and what is wrong with it."""

    where: str
    what: str


@dataclass
class Verdict:
    """What a check has found; `checked` says in a line each what was good."""

    problems: list[Problem] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Check:
    """One run: the repository, the keyring that is trusted, a folder to work in, and when."""

    context: Context
    repository: Repository
    keyring: Path
    work: Path
    verdict: Verdict
    now: datetime

    def tell(self, path: Path, what: str) -> None:
        """Note a problem of a file."""
        self.verdict.problems.append(Problem(self._shown(path), what))

    def _shown(self, path: Path) -> str:
        root = self.repository.root
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def begin(context: Context, repository: Repository, keyring: Path, work: Path) -> Check:
    """Return a run that begins now."""
    return Check(context, repository, keyring, work, Verdict(), datetime.now(UTC))


def check_channel(check: Check, path: Path) -> Channel | None:
    """Check a channel's file; return what it says when it is signed by a known key."""
    try:
        text, signature = split_signed(_small(path))
        signed = _signers(check, text, signature)
        said = Channel.model_validate_json(text)
    except (OSError, ValueError, BadSignature) as error:
        check.tell(path, reason(error))
        return None
    found = len(check.verdict.problems)
    if path != check.repository.channel(said.image_id, said.channel):
        check.tell(path, f"is of channel {said.image_id}/{said.channel}")
    if said.expires <= check.now:
        check.tell(path, f"has expired on {said.expires:%Y-%m-%d %H:%M} UTC")
    if said.minimum and is_older(said.version, said.minimum):
        check.tell(path, f"its version {said.version} is older than its minimum {said.minimum}")
    sums = check.repository.version(said.image_id, said.version) / SUMS
    if not sums.is_file():
        check.tell(path, f"leads to {said.version}, which is not there")
    elif sha256_file(sums) != said.sums_sha256:
        check.tell(path, f"was signed for another {SUMS} of {said.version}")
    if len(check.verdict.problems) == found:
        until = f"{said.expires:%Y-%m-%d}"
        name = f"channel {said.image_id}/{said.channel}"
        line = f"{name}: {said.version}, serial {said.serial}, until {until}, {_by(signed)}"
        check.verdict.checked.append(line)
    return said


def check_version(check: Check, image_id: str, version: str) -> set[str]:
    """Check everything of one version; return the names of the layer files that it needs."""
    folder = check.repository.version(image_id, version)
    found = len(check.verdict.problems)
    signed = check_sums(check, folder)
    if signed is None:
        return set()
    listed, keys = signed
    if not _all_as_listed(check, folder, listed):
        return set()
    with scratch(check.work / "content") as inner:
        layers = check_content(
            check.context.runner, check.repository, folder, listed, inner, check.tell
        )
    if len(check.verdict.problems) == found:
        count = f"{len(listed)} sums, {len(layers)} layers"
        check.verdict.checked.append(f"version {image_id}/{version}: {count}, {_by(keys)}")
    return layers


def check_sums(check: Check, folder: Path) -> tuple[dict[str, str], tuple[str, ...]] | None:
    """Return the signed sums of a version's folder and who signed them; None when not good."""
    path = folder / SIGNATURE
    try:
        _check_small(path)
        path = folder / SUMS
        text = _small(path)
        signed = check_signature(check.context.runner, check.keyring, folder / SIGNATURE, path)
        return parse_sums(text), signed
    except (OSError, ValueError, BadSignature) as error:
        check.tell(path, reason(error))
        return None


def _signers(check: Check, text: str, signature: str) -> tuple[str, ...]:
    data, apart = check.work / "text", check.work / "signature"
    data.write_text(text)
    apart.write_text(signature)
    return check_signature(check.context.runner, check.keyring, apart, data)


def _all_as_listed(check: Check, folder: Path, listed: dict[str, str]) -> bool:
    """Tell whether exactly the listed files are there, byte by byte.

    A part under the name by which it is installed is listed, and not a file of the release.
    """
    found = len(check.verdict.problems)
    installed = f"{folder.parent.name}_"
    files = {name for name in listed if not name.startswith(installed)}
    there = {path.name for path in folder.iterdir()}
    for name in sorted(files - there):
        check.tell(folder / name, "is missing")
    for name in sorted(there - files - {SUMS, SIGNATURE}):
        check.tell(folder / name, f"is not in {SUMS}")
    for name in sorted(there & files):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            check.tell(path, "is not a plain file")
        elif sha256_file(path) != listed[name]:
            check.tell(path, "is not the file that was signed")
    return len(check.verdict.problems) == found


def _small(path: Path) -> str:
    _check_small(path)
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ValueError("is not text") from None


def _check_small(path: Path) -> None:
    if path.is_symlink() or path.stat().st_size > _SMALL:
        raise ValueError("is not a small plain file")


def _by(fingerprints: tuple[str, ...]) -> str:
    return f"signed by {', '.join(fingerprints)}"

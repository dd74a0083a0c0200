"""What a mirror says a model consists of, in both of Hugging Face's forms.

`/api/models/REPO/revision/REV?blobs=true` has `siblings` (rfilename, size, blobId,
lfs.sha256), `/api/models/REPO/tree/REV?recursive=true` a list (type, path, size, oid,
lfs.oid). What is not needed to serve is left out; what could leave the folder is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from imgnode.fault import FETCH, Fault
from imgnode.problems import shown

# After one dot at most: a hidden file passes here, `..` does not.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+@()=,-]{0,199}")
_DEEPEST = 8
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_OTHER_WEIGHTS = frozenset(
    {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth", ".tflite"}
)
_CODE = frozenset({".py", ".pyc", ".so", ".sh"})  # never run, so never needed
_FOLDERS = frozenset({"original", "onnx", "coreml", "openvino"})
_SAFE = ".safetensors"


@dataclass(frozen=True)
class RemoteFile:
    """One file: its size in bytes, and the sha256 of its content or its git blob's sha1."""

    path: str
    size: int
    sha256: str | None
    sha1: str | None

    @property
    def digest(self) -> str:
        """What names the content."""
        return self.sha256 or self.sha1 or ""


@dataclass(frozen=True)
class Listing:
    """The files that are needed, and the commit they belong to (None: the mirror did not say)."""

    files: tuple[RemoteFile, ...]
    commit: str | None

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(one.size for one in self.files)


def parse(text: str) -> Listing | None:
    """Return the listing in an answer; None where it has no sizes. Raises Fault when it is bad."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise Fault(FETCH, f"the mirror's list of files is no JSON: {error}") from error
    if isinstance(values, dict):
        entries, commit = values.get("siblings"), values.get("sha")
    else:
        entries, commit = values, None
    if not isinstance(entries, list):
        return None
    files = [_file(one) for one in entries if _is_file(one)]
    known = [one for one in files if one is not None]
    if len(known) != len(files) or not known:
        return None
    return Listing(needed(known), commit if isinstance(commit, str) else None)


def needed(files: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Leave out other forms of the weights where there are safetensors, code and hidden files."""
    safe = any(one.path.endswith(_SAFE) for one in files)
    return tuple(
        one
        for one in files
        if not one.path.startswith(".")
        and PurePosixPath(one.path).suffix not in _CODE
        and not (safe and _is_other_form(PurePosixPath(one.path)))
    )


def _is_other_form(path: PurePosixPath) -> bool:
    return path.suffix in _OTHER_WEIGHTS or (len(path.parts) > 1 and path.parts[0] in _FOLDERS)


def _is_file(entry: object) -> bool:
    """Tell files from folders; anything else, such as a link, is refused."""
    if not isinstance(entry, Mapping):
        raise Fault(FETCH, "the mirror's list of files cannot be understood")
    kind = entry.get("type", "file")
    if kind not in ("file", "directory"):
        name = shown(entry.get("path"))
        raise Fault(FETCH, f"the mirror's list of files has {name}, a {shown(kind)}: refused")
    return bool(kind == "file")


def _file(entry: Mapping[str, Any]) -> RemoteFile | None:
    """Return one file, None where its size or digest is not told."""
    path = _path(entry.get("path", entry.get("rfilename")))
    lfs = entry.get("lfs")
    size = lfs.get("size", entry.get("size")) if isinstance(lfs, Mapping) else entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    if isinstance(lfs, Mapping):
        sha256 = lfs.get("sha256", lfs.get("oid"))
        known = isinstance(sha256, str) and _SHA256.fullmatch(sha256)
        return RemoteFile(path, size, str(sha256), None) if known else None
    sha1 = entry.get("oid", entry.get("blobId"))
    known = isinstance(sha1, str) and _SHA1.fullmatch(sha1)
    return RemoteFile(path, size, None, str(sha1)) if known else None


def _path(value: object) -> str:
    """Return a path below the model's folder. Raises Fault for every other."""
    if isinstance(value, str):
        parts = value.split("/")
        named = all(_SEGMENT.fullmatch(part.removeprefix(".")) for part in parts)
        if named and len(parts) <= _DEEPEST:
            return value
    raise Fault(FETCH, f"the mirror's list of files has {shown(value)}: refused as a file name")

"""Looks through files, and through what is packed in them, for credentials and for words."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

_CHUNK = 16 << 20
_OVERLAP = 4096  # bytes that two pieces share: nothing is cut in two
_ZSTD, _CPIO = b"\x28\xb5\x2f\xfd", b"070701"
CREDENTIALS = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\r?\n"
    rb"(?:[A-Za-z0-9+/=]{16,}|[A-Za-z-]+: )"
    rb"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    rb"|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}"
    rb"|\bglpat-[A-Za-z0-9_-]{20}\b"
    rb"|\bhf_[A-Za-z0-9]{34}\b"  # Hugging Face
    rb"|\bnvapi-[A-Za-z0-9_-]{60,}"
    rb"|\bxox[abprs]-[0-9]{10,}-[0-9A-Za-z-]{20,}"  # Slack
    rb"|\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"
    rb"|://[^\s/:@\"'<>{}$%]{1,40}:(?!pass|pw|secret|xxx)[^\s/:@\"'<>{}$%*]{6,60}@[a-z0-9-]+\.[a-z]"
)


def leaks(folder: Path, words: Sequence[str], point: Path) -> list[str]:
    """Return a line for each credential, and each of the words, in an image's files.

    EROFS images are mounted at the empty folder `point` and looked through file by file, since
    they are compressed; initrd and UKI are not, but for that of an installer. In a release,
    what ends in .zst holds what was looked through before it was packed: that is left out.
    """
    pattern = re.compile(
        b"|".join([CREDENTIALS.pattern, *(re.escape(word.encode()) for word in words)])
    )
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.name == "disk.raw":
            continue  # the disk holds the same files as its partitions
        name = str(path.relative_to(folder))
        if path.suffix == ".erofs":
            found += [f"{name}: {line}" for line in _inside(path, pattern, point)]
        elif path.suffix != ".zst":
            found += [f"{name}: {line}" for line in search(path, pattern)]
            found += [f"{name}: {line}" for line in _packed(path, pattern)]
    return found


def _packed(path: Path, pattern: re.Pattern[bytes]) -> Iterator[str]:
    """Look through the compressed cpio that an EFI program brings along."""
    data = path.read_bytes() if path.suffix == ".efi" else b""
    at = data.find(_ZSTD)
    while at >= 0:
        # It says that something else follows, which is so.
        done = subprocess.run(
            ["zstd", "-dcq"], input=data[at:], capture_output=True, check=False
        ).stdout
        for name, content in _members(done):
            yield from sorted({f"{name}: {_told(one)}" for one in pattern.finditer(content)})
        at = data.find(_ZSTD, at + 1)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a cpio archive's files (Linux, buffer-format.rst: newc)."""
    at = 0
    while data[at : at + 6] == _CPIO:
        size, length = (int(data[at + place : at + place + 8], 16) for place in (54, 94))
        begin = at + 110 + length + (-(at + 110 + length) % 4)
        yield data[at + 110 : at + 110 + length - 1].decode(), data[begin : begin + size]
        at = begin + size + (-size % 4)


def _inside(image: Path, pattern: re.Pattern[bytes], point: Path) -> Iterator[str]:
    subprocess.run(["mount", "-o", "loop,ro", image, point], check=True)
    try:
        for path in sorted(point.rglob("*")):
            if path.is_symlink():
                if pattern.search(str(path.readlink()).encode()):
                    yield f"{path.relative_to(point)} → {path.readlink()}"
            elif path.is_file():
                yield from (f"{path.relative_to(point)}: {one}" for one in search(path, pattern))
    finally:
        subprocess.run(["umount", point], check=True)


def search(path: Path, pattern: re.Pattern[bytes]) -> Iterator[str]:
    """Yield the beginning of what fits in a file, each once."""
    seen = set()
    with path.open("rb") as stream:
        tail = b""
        while piece := stream.read(_CHUNK):
            for match in pattern.finditer(tail + piece):
                seen.add(_told(match))
            tail = piece[-_OVERLAP:]
    yield from sorted(seen)


def _told(match: re.Match[bytes]) -> str:
    return match[0][:60].decode(errors="replace")

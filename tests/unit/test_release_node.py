"""What builder and node share about releases: order, sums, signatures, hash trees."""

from __future__ import annotations

import hashlib
import uuid
from itertools import pairwise
from pathlib import Path

import pytest

from imgnode.release.signature import (
    BadSignature,
    gpgv_command,
    join_signed,
    signers,
    split_signed,
)
from imgnode.release.sums import parse_sums, sums_text
from imgnode.release.verity import BLOCK, read_facts, write_tree
from imgnode.release.versions import is_older, newest_first

A, B = "A" * 40, "B" * 40
DIGEST = "0123456789abcdef" * 4
ARMOR = "-----BEGIN PGP SIGNATURE-----\n\niHUE\n-----END PGP SIGNATURE-----\n"


# systemd-analyze compare-versions of systemd 254 says so for each neighbour.
@pytest.mark.parametrize(
    ("older", "newer"),
    pairwise(["1.0~rc1", "1.0", "1.0.1", "1.9", "1.10", "2", "20261124-0dfc7685", "20261125-a"]),
)
def test_versions_sort_as_systemd_sorts_them(older: str, newer: str) -> None:
    assert is_older(older, newer)
    assert not is_older(newer, older)


def test_words_of_a_version() -> None:
    assert is_older("1.a", "1a")
    assert is_older("1-1", "1.1")
    assert is_older("A", "a")
    assert not is_older("01", "1")
    assert not is_older("1", "01")
    assert newest_first(["1.9", "1.10", "1.2"]) == ["1.10", "1.9", "1.2"]


def test_sums_there_and_back() -> None:
    text = sums_text({"b": DIGEST, "a.zst": DIGEST})
    assert text == f"{DIGEST}  a.zst\n{DIGEST}  b\n"
    assert parse_sums(text) == {"a.zst": DIGEST, "b": DIGEST}


@pytest.mark.parametrize(
    "line",
    [
        f"{DIGEST}  ../../etc/passwd",
        f"{DIGEST}  layers/x",
        f"{DIGEST}  /etc/passwd",
        f"{DIGEST}  .hidden",
        f"{DIGEST}  ..",
        f"{DIGEST}  two words",
        f"{DIGEST[:-1]}  short",
        f"{DIGEST.upper()}  upper",
        f"{DIGEST} name",
        f"\\{DIGEST}  escaped",
        f"{DIGEST}  name\r",
        "",
    ],
)
def test_a_line_that_is_no_plain_name_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_sums(f"{DIGEST}  good\n{line}\n")


def test_sums_that_say_something_twice_or_end_early() -> None:
    with pytest.raises(ValueError, match="line 2 names a again"):
        parse_sums(f"{DIGEST}  a\n{DIGEST}  a\n")
    for text in ("", f"{DIGEST}  a", f"{DIGEST}  a\n{DIGEST}  b"):
        with pytest.raises(ValueError, match="cut short"):
            parse_sums(text)


def status(*lines: str) -> str:
    return "".join(f"[GNUPG:] {line}\n" for line in lines)


def good(key: str) -> tuple[str, ...]:
    return (
        "NEWSIG x@example",
        f"GOODSIG {key[-16:]} name",
        f"VALIDSIG {key} 2026-11-25 1795623506 0 4 0 22 8 00 {key}",
    )


UNKNOWN = ("NEWSIG", "ERRSIG 203686529BC39BC8 22 8 00 1795623506 9 " + B, "NO_PUBKEY 2036")
EXPIRED = ("NEWSIG", f"EXPKEYSIG {B[-16:]} name", f"VALIDSIG {B} 2025-01-10 1 0 4 0 22 8 00 {B}")
REVOKED = ("NEWSIG", f"REVKEYSIG {B[-16:]} name", f"VALIDSIG {B} 2025-01-10 1 0 4 0 22 8 00 {B}")
BAD = ("NEWSIG", f"BADSIG {B[-16:]} name")


def test_one_signature_by_a_known_key_is_enough() -> None:
    assert signers(status(*good(A))) == (A,)
    assert signers(status(*good(A), *good(B))) == (A, B)
    for other in (UNKNOWN, EXPIRED, REVOKED):
        assert signers(status(*good(A), *other)) == (A,)
        assert signers(status(*other, *good(A))) == (A,)


def test_the_primary_key_counts_not_the_subkey() -> None:
    lines = ("NEWSIG", "GOODSIG 1 n", f"VALIDSIG {B} 2026-11-25 1 0 4 0 22 8 00 {A}")
    assert signers(status(*lines)) == (A,)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (UNKNOWN, "not in the keyring"),
        (EXPIRED, "its key has expired"),
        (REVOKED, "was revoked"),
        (("NODATA 2",), "no signature"),
        ((), "no signature"),
        ((*good(A), *BAD), "of other bytes"),
        ((f"VALIDSIG {A} 2026-11-25 1 0 4 0 22 8 00 {A}",), "no signature"),
    ],
)
def test_what_is_not_signed_as_it_must_be(lines: tuple[str, ...], why: str) -> None:
    with pytest.raises(BadSignature, match=why):
        signers(status(*lines))


def test_only_gpgvs_own_lines_count() -> None:
    text = "".join(f"x {line}" for line in status(*good(A)).splitlines(keepends=True))
    with pytest.raises(BadSignature):
        signers(text)


def test_weak_digests_are_refused_by_gpgv() -> None:
    words = gpgv_command(Path("/k"), Path("/s"), Path("/d"))
    assert words[words.index("--weak-digest") + 1] == "SHA1"
    assert words[-3:] == ["--", "/s", "/d"]


def test_a_signed_text_there_and_back() -> None:
    assert split_signed(join_signed('{"a": 1}\n', ARMOR)) == ('{"a": 1}\n', ARMOR)


@pytest.mark.parametrize(
    "signed",
    [
        '{"a": 1}\n',
        f'{{"a": 1}}{ARMOR}',
        ARMOR,
        f"{{}}\n{ARMOR}more\n",
        f"{{}}\n{ARMOR}{ARMOR}",
        f"{{}}\n{ARMOR[:-1]}",
        "",
    ],
)
def test_a_text_that_is_not_one_text_with_one_signature(signed: str) -> None:
    with pytest.raises(BadSignature):
        split_signed(signed)


def test_the_tree_is_that_of_veritysetup(tmp_path: Path) -> None:
    """Digest and root hash are those of `veritysetup format` 2.6.1: two levels, salt, UUID."""
    image, tree = tmp_path / "image", tmp_path / "tree"
    image.write_bytes(b"".join(bytes([number % 251]) * BLOCK for number in range(300)))
    salt, id_ = b"\xab" * 32, uuid.UUID("12345678-1234-5678-1234-567812345678")
    root_hash = write_tree(image, tree, salt=salt, uuid=id_)
    assert root_hash == "2ee2943d173765bcb8df0109e3a9ffa68cf7b3d2907f473614ae9e347cec9c73"
    assert hashlib.sha256(tree.read_bytes()).hexdigest() == (
        "db13b11f97e102368349fb6300418d9b4e61e379765656dc85f53c6a8c5073b8"
    )
    facts = read_facts(tree)
    assert (facts.salt, facts.uuid, facts.data_blocks) == (salt, id_, 300)


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
def test_an_image_that_has_no_tree(tmp_path: Path, size: int) -> None:
    (tmp_path / "image").write_bytes(b"x" * size)
    with pytest.raises(ValueError, match="no whole number"):
        write_tree(tmp_path / "image", tmp_path / "tree", salt=b"", uuid=uuid.UUID(int=0))


@pytest.mark.parametrize("content", [b"", b"x" * BLOCK, b"verity\0\0" + b"\2" * BLOCK])
def test_a_file_that_is_no_tree(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tree").write_bytes(content)
    with pytest.raises(ValueError, match="is "):
        read_facts(tmp_path / "tree")

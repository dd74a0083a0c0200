"""Releases that are not as they were signed, or were signed wrong: refused, by name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.build.press import Press, gpg_of, press, printed, run
from tests.build.small_image import IMAGE_ID

__all__ = ["press", "printed"]


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


FILES = (
    f"{IMAGE_ID}/1.1/SHA256SUMS",
    f"{IMAGE_ID}/1.1/SHA256SUMS.gpg",
    f"{IMAGE_ID}/1.1/disk.raw.bmap",
    f"{IMAGE_ID}/1.1/disk.raw.zst",
    f"{IMAGE_ID}/1.1/manifest.json",
    f"{IMAGE_ID}/1.1/release.json",
    f"{IMAGE_ID}/1.1/root.erofs.zst",
    f"{IMAGE_ID}/1.1/root.from-1.0.zstpatch",
    f"{IMAGE_ID}/1.1/root.verity.zst",
    f"{IMAGE_ID}/1.1/uki.efi.zst",
    f"{IMAGE_ID}/1.1/uki.from-1.0.zstpatch",
    f"channels/{IMAGE_ID}/stable.json.asc",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [20, -90])
def test_a_flipped_bit_is_found_where_it_is(press: Press, name: str, at: int) -> None:
    _flip(press.repository / name, at)
    found = press.verify()
    about = name.removesuffix(".gpg")
    assert any(line.startswith((f"{name}: ", f"{about}: ", f"{about}.gpg: ")) for line in found)


def test_a_flipped_bit_in_a_layer(press: Press) -> None:
    layer = sorted((press.repository / "layers").iterdir())[0]
    _flip(layer, 1000)
    assert f"layers/{layer.name}: is damaged" in press.verify()
    layer.unlink()
    assert any("is missing; 1.1 needs it" in line for line in press.verify())


def _swap(press: Press) -> str:
    shutil.copy(press.folder("1.0") / "root.erofs.zst", press.folder("1.1") / "root.erofs.zst")
    return f"{IMAGE_ID}/1.1/root.erofs.zst: is not the file that was signed"


def _rename(press: Press) -> str:
    press.folder("1.0").rename(press.folder("2.0"))
    return f"{IMAGE_ID}/2.0/manifest.json: is of {IMAGE_ID}/1.0, and lies in {IMAGE_ID}/2.0"


def _other_sums(press: Press) -> str:
    for name in ("SHA256SUMS", "SHA256SUMS.gpg"):
        shutil.copy(press.folder("1.0") / name, press.folder("1.1") / name)
    return f"channels/{IMAGE_ID}/stable.json.asc: was signed for another SHA256SUMS of 1.1"


def _other_channel(press: Press) -> str:
    shutil.copy(press.channel("stable"), press.channel("canary"))
    return f"channels/{IMAGE_ID}/canary.json.asc: is of channel {IMAGE_ID}/stable"


def _extra(press: Press) -> str:
    (press.folder("1.1") / "more").write_text("x")
    return f"{IMAGE_ID}/1.1/more: is not in SHA256SUMS"


def _extra_layer(press: Press) -> str:
    (press.repository / "layers/x.erofs").write_text("x")
    return "layers/x.erofs: no good version needs it"


def _extra_above(press: Press) -> str:
    (press.repository / "index.html").write_text("x")
    return "index.html: does not belong to a repository"


def _link(press: Press) -> str:
    path = press.folder("1.1") / "uki.efi.zst"
    path.rename(press.place.top / "uki.efi.zst")
    path.symlink_to(press.place.top / "uki.efi.zst")
    return f"{IMAGE_ID}/1.1/uki.efi.zst: is not a plain file"


def _gone(press: Press) -> str:
    (press.folder("1.1") / "uki.efi.zst").unlink()
    return f"{IMAGE_ID}/1.1/uki.efi.zst: is missing"


def _gone_version(press: Press) -> str:
    shutil.rmtree(press.folder("1.1"))
    return f"channels/{IMAGE_ID}/stable.json.asc: leads to 1.1, which is not there"


def _unsigned(press: Press) -> str:
    (press.folder("1.1") / "SHA256SUMS.gpg").unlink()
    return f"{IMAGE_ID}/1.1/SHA256SUMS.gpg: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "damage",
    [
        _swap,
        _rename,
        _other_sums,
        _other_channel,
        _extra,
        _extra_layer,
        _extra_above,
        _link,
        _gone,
        _gone_version,
        _unsigned,
    ],
)
def test_what_does_not_belong_together(press: Press, damage: Callable[[Press], str]) -> None:
    told = damage(press)
    assert told in press.verify()


def _resign(press: Press, version: str, change: Callable[[str, str], str]) -> None:
    """Change release.json, manifest.json or SHA256SUMS, and sign all anew, with the right key."""
    folder = press.folder(version)
    for name in ("manifest.json", "release.json", "SHA256SUMS"):
        path = folder / name
        path.chmod(0o644)
        path.write_text(change(name, path.read_text()))
        if name != "SHA256SUMS":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            sums = folder / "SHA256SUMS"
            sums.chmod(0o644)
            lines = re.sub(rf"[0-9a-f]{{64}}(?=  {re.escape(name)}\n)", digest, sums.read_text())
            sums.write_text(lines)
    with gpg_of(press) as gpg:
        words = ("--yes", "--output", "SHA256SUMS.gpg", "--detach-sign", "SHA256SUMS")
        run(*gpg, *words, cwd=folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "SHA256SUMS",
            "  uki.efi.zst",
            "  ../../../uki.efi.zst",
            "SHA256SUMS: line 11 is not a digest",
        ),
        ("SHA256SUMS", "  uki.efi.zst", "  /etc/passwd", "SHA256SUMS: line 11 is not a digest"),
        ("release.json", '"name": "root.erofs.zst"', '"name": "../x.zst"', "1.1: "),
        ("release.json", '"from_version": "1.0"', '"from_version": "../../x"', "1.1: "),
        ("release.json", '"version": "1.1"', '"version": "1.2"', "1.1/release.json: is of"),
        ("manifest.json", '"root_hash": "', '"root_hash": "../', "1.1: "),
        ("release.json", '"old_start": 0,', '"old_start": 4096,', "root.from-1.0.zstpatch: "),
        ("manifest.json", '"offset": 4096', '"offset": 8192', "its partition a is not root.erofs"),
        ("release.json", '"salt": "', '"salt": "00', "1.1/release.json: root_hash is not that"),
    ],
)
def test_a_signature_is_no_excuse(press: Press, file: str, old: str, new: str, told: str) -> None:
    """The key's owner is wrong or careless: what is signed must still be true."""

    def change(name: str, text: str) -> str:
        assert name != file or old in text
        return text.replace(old, new, 1) if name == file else text

    _resign(press, "1.1", change)
    found = press.verify(where=press.folder("1.1"))
    assert any(told in line for line in found), found


def test_a_patch_that_makes_another_version(press: Press) -> None:
    """It unpacks well and is signed; what it makes is not the root of this version."""
    press.image("1.2")
    press.release("1.2")
    name = "root.from-1.0.zstpatch"
    theirs, ours = (_root_patch(press, version, name) for version in ("1.2", "1.1"))
    shutil.copyfile(press.folder("1.2") / name, press.folder("1.1") / "copy")
    (press.folder("1.1") / "copy").replace(press.folder("1.1") / name)

    def change(file: str, text: str) -> str:
        if file == "release.json":
            said = json.loads(text)
            said["parts"][0]["patches"] = [theirs]
            return json.dumps(said)
        return text.replace(ours["sha256"], theirs["sha256"])

    _resign(press, "1.1", change)
    found = press.verify(where=press.folder("1.1"))
    assert found == [f"{IMAGE_ID}/1.1/{name}: does not make root.erofs of 1.1"]


def _root_patch(press: Press, version: str, name: str) -> Any:  # noqa: ANN401 - JSON
    said = json.loads((press.folder(version) / "release.json").read_text())
    return next(one for one in said["parts"][0]["patches"] if one["name"] == name)

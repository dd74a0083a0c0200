"""Releases without gpg and zstd: what files must say, where a channel may go, what is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.gpg import _listed, armored_signature, dearmored
from builder.model.artifacts import Manifest
from builder.model.release import Channel, FullFile, HashTree, Part, Patch, Piece, Release
from builder.release.channel import Move, check_move
from builder.release.layout import FULL, PARTS, disagreements, install_names, patch_name, sums
from builder.release.publish import Image, check_image, predecessors
from builder.release.repository import Repository, locked, read_channel
from builder.release.sign import AgentKey, CommandKey, FileKey, parse_key
from builder.release.zstd import old_slice
from imgnode.release.signature import join_signed
from tests.unit.images import digest, manifest
from tests.unit.resolve_project import files
from tests.unit.test_cli import Call, call
from tests.unit.test_release_node import ARMOR

__all__ = ["call", "files"]

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LISTING = """\
sec:u:255:22:06E0BC0A434981CB:1795623505:::u:::scSC:::::ed25519:::0:
fpr:::::::::528C21A8B6026041AB302D8506E0BC0A434981CB:
grp:::::::::0134066F92C76ABB8BBC073223A9D968BCB67D9A:
uid:u::::1795623505::0F099418D690943BA201D437CB86CD33C36EA20D::a <a@x>::::::::::0:
pub:e:255:22:C2A9A67763EDD796:1735689600:1738281600::u:::sc:::::ed25519:::0:
fpr:::::::::EC1C91EB96C1DC961A9D68CCC2A9A67763EDD796:
uid:e::::1735689600::7346A266C61DC5A60943AFBB2C137061D4B69FC4::e <e@x>::::::::::0:
sub:e:255:22:0000000000000000:1735689600::::::s:::::ed25519::
fpr:::::::::0000000000000000000000000000000000000000:
"""


def release(one: Manifest, *olds: str) -> Release:
    """Return what `imgbuild release` writes for a manifest, with patches of the root."""
    names = install_names(one.image_id, one.version, one.root_hash)
    parts = []
    for name in PARTS:
        made = next(artifact for artifact in one.artifacts if artifact.name == name)
        patches = tuple(patch(old) for old in olds) if name == "root.erofs" else ()
        parts.append(
            Part(
                name=name,
                bytes=made.bytes,
                sha256=made.sha256,
                install_as=names[name],
                full=FullFile(name=FULL[name], bytes=5, sha256=digest("f")),
                patches=patches,
            )
        )
    tree = HashTree(salt="ab", uuid=str(uuid.UUID(int=1)))
    return Release(
        image_id=one.image_id,
        version=one.version,
        root_hash=one.root_hash,
        verity=tree,
        parts=tuple(parts),
    )


def patch(old: str) -> Patch:
    return Patch(
        name=patch_name("root.erofs", old),
        bytes=5,
        sha256=digest("d"),
        from_version=old,
        from_sha256=digest("a"),
        pieces=(
            Piece(bytes=2, old_start=0, old_bytes=1),
            Piece(bytes=3, old_start=0, old_bytes=1),
        ),
    )


def facts(one: Manifest, said: Release, listed: dict[str, str] | None = None) -> list[str]:
    listed = sums(said, digest("0"), digest("1")) if listed is None else listed
    found = disagreements(one, said, listed, "imgbuild-cpu", "2")
    return [f"{name}: {what}" for name, what in found]


def test_a_release_agrees_with_itself() -> None:
    assert facts(manifest("2"), release(manifest("2"), "1")) == []


def test_a_part_may_lie_there_as_it_is() -> None:
    """Releases made before UKIs were compressed stay good."""
    said = release(manifest("2"))
    plain = said.parts[2].full.model_copy(update={"name": "uki.efi"})
    last = said.parts[2].model_copy(update={"full": plain})
    assert facts(manifest("2"), said.model_copy(update={"parts": (*said.parts[:2], last)})) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "3"}, "release.json: is of imgbuild-cpu/3, and lies in imgbuild-cpu/2"),
        ({"image_id": "other"}, "release.json: is of other/2"),
        ({"root_hash": digest("9")}, "release.json: has another root hash than manifest.json"),
        (
            {"documents": (FullFile(name="disk.raw", bytes=1, sha256=digest("0")),)},
            "disk.raw: is none of lock.json, provenance.json, sbom.cdx.json, sbom.spdx.json",
        ),
        ({"parts": ()}, "release.json: parts are not root.erofs, root.verity, uki.efi"),
    ],
)
def test_a_release_that_is_of_something_else(change: dict[str, object], told: str) -> None:
    said = release(manifest("2")).model_copy(update=change)
    assert told in "\n".join(facts(manifest("2"), said))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": digest("9")}, "release.json: root.erofs is another file than in manifest"),
        ({"bytes": 1}, "release.json: root.erofs is another file than in manifest"),
        (
            {"install_as": "x.root.raw"},
            "release.json: root.erofs: install_as must be imgbuild-cpu_",
        ),
        (
            {"full": FullFile(name="r.zst", bytes=5, sha256=digest("f"))},
            "release.json: root.erofs: full must be root.erofs.zst",
        ),
        (
            {"patches": (patch("1").model_copy(update={"name": "x"}),)},
            "x: must be called root.from-1",
        ),
        (
            {"patches": (patch("1").model_copy(update={"bytes": 6}),)},
            "its pieces are not the whole",
        ),
    ],
)
def test_a_part_that_is_not_as_it_must_be(change: dict[str, object], told: str) -> None:
    said = release(manifest("2"))
    first = said.parts[0].model_copy(update=change)
    said = said.model_copy(update={"parts": (first, *said.parts[1:])})
    assert told in "\n".join(facts(manifest("2"), said))


def test_sums_name_what_the_release_names_and_nothing_else() -> None:
    said = release(manifest("2"), "1")
    whole = sums(said, digest("0"), digest("1"))
    for name in ("root.from-1.zstpatch", said.parts[0].install_as, "uki.efi.zst"):
        listed = {key: value for key, value in whole.items() if key != name}
        assert facts(manifest("2"), said, listed) == [
            f"{name}: SHA256SUMS and release.json do not agree on it"
        ]
        listed = {**whole, name: digest("9")}
        assert len(facts(manifest("2"), said, listed)) == 1
    assert len(facts(manifest("2"), said, {**whole, "more": digest("9")})) == 1


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("version", "../1"),
        ("version", ".."),
        ("image_id", "/etc"),
        ("image_id", "a/b"),
        ("channel", "../stable"),
        ("sums_sha256", "0"),
        ("serial", 0),
        ("expires", "2026-11-25T12:00:00"),
    ],
)
def test_a_channel_cannot_lead_out_of_the_repository(field: str, name: object) -> None:
    said = channel().model_dump(mode="json") | {field: name}
    with pytest.raises(ValidationError):
        Channel.model_validate(said)


@pytest.mark.parametrize("name", ["../x", "/x", ".x", "a/b", "..", ""])
def test_a_file_of_a_release_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValidationError):
        FullFile(name=name, bytes=1, sha256=digest("0"))
    with pytest.raises(ValidationError):
        patch("1").model_validate(patch("1").model_dump() | {"from_version": name})


def channel(version: str = "2", minimum: str | None = None) -> Channel:
    return Channel(
        image_id="imgbuild-cpu",
        channel="stable",
        serial=7,
        version=version,
        sums_sha256=digest("0"),
        minimum=minimum,
        created=NOW,
        expires=NOW + timedelta(days=30),
    )


Put = Callable[[Channel], Repository]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Return what writes a channel into a repository."""

    def write(said: Channel) -> Repository:
        place = Repository(tmp_path)
        path = place.channel(said.image_id, said.channel)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(join_signed(said.model_dump_json(indent=1) + "\n", ARMOR))
        return place

    return write


def move(version: str, minimum: str | None = None, *, allow_older: bool = False) -> Move:
    lifetime = timedelta(days=30)
    return Move("imgbuild-cpu", "stable", version, lifetime, minimum, allow_older=allow_older)


def test_a_channel_moves_forward_or_stays(put: Put, tmp_path: Path) -> None:
    assert check_move(Repository(tmp_path), move("1")) is None
    place = put(channel("2"))
    assert read_channel(place.channel("imgbuild-cpu", "stable")) == channel("2")
    for version in ("2", "3", "2.0.1"):
        assert check_move(place, move(version)) == channel("2")


def test_a_channel_goes_back_only_when_that_is_meant(put: Put) -> None:
    place = put(channel("2"))
    with pytest.raises(UserError, match="is at 2, and 1 is older") as caught:
        check_move(place, move("1"))
    assert "--allow-older" in str(caught.value)
    assert check_move(place, move("1", allow_older=True)) == channel("2")


def test_a_minimum_stays_and_falls_only_when_that_is_meant(put: Put) -> None:
    place = put(channel("2", "1.5"))
    assert check_move(place, move("3", "2"))
    with pytest.raises(UserError, match=r"minimum is 1\.5, and 1 is older"):
        check_move(place, move("3", "1"))
    assert check_move(place, move("3", "1", allow_older=True))
    with pytest.raises(UserError, match=r"1 is older than the minimum, 1\.5"):
        check_move(place, move("1", allow_older=True))
    assert check_move(place, move("1", "1", allow_older=True))
    with pytest.raises(UserError, match="3 is older than the minimum, 4"):
        check_move(place, move("3", "4"))


def test_a_damaged_channel_is_never_overwritten(put: Put) -> None:
    place = put(channel())
    path = place.channel("imgbuild-cpu", "stable")
    path.write_text(path.read_text().replace("serial", "cereal"))
    with pytest.raises(UserError, match=r"stable\.json\.asc: serial: Field required"):
        check_move(place, move("3"))


def test_patches_are_made_from_the_newest_older_versions(tmp_path: Path) -> None:
    place = Repository(tmp_path)
    for version in ("1.2", "1.10", "1.9", "3"):
        folder = place.version("imgbuild-cpu", version)
        folder.mkdir(parents=True)
        (folder / "release.json").write_text(release(manifest(version)).model_dump_json())
    (tmp_path / "imgbuild-cpu" / ".2.part").mkdir()
    found = predecessors(place, manifest("2"), 2)
    assert [one.version for one in found] == ["1.10", "1.9"]
    assert predecessors(place, manifest("2"), 0) == []


def test_what_a_killed_run_left_goes_and_nothing_else(tmp_path: Path) -> None:
    place = Repository(tmp_path)
    left = ["imgbuild-cpu/.2.part/uki.efi", "layers/.ab.erofs.part"]
    left += ["channels/imgbuild-cpu/.stable.json.asc.x1"]
    kept = ["imgbuild-cpu/1/uki.efi", "layers/ab.erofs", "channels/imgbuild-cpu/stable.json.asc"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with locked(place):
        there = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert there == sorted(kept)


def test_an_image_that_is_not_what_its_manifest_says(tmp_path: Path) -> None:
    image = Image(tmp_path, manifest())
    with pytest.raises(UserError, match=r"root\.erofs: is missing"):
        check_image(image)
    (tmp_path / "root.erofs").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=r"root\.erofs: is not the file that manifest\.json names"):
        check_image(image)


def test_the_slices_of_an_old_file_are_halves_around_the_piece() -> None:
    assert [old_slice(800, number) for number in range(4)] == [
        (0, 400),
        (100, 400),
        (300, 400),
        (400, 400),
    ]
    assert old_slice(1, 3) == (0, 0) or old_slice(1, 3)[1] == 0


def test_armor_there_and_back() -> None:
    data = bytes(range(256))
    assert dearmored(armored_signature(data)) == data
    assert dearmored(armored_signature(data).replace("\n", "\r\n")) == data
    assert dearmored(armored_signature(data) + armored_signature(data)) == data + data
    for text in ("", "x", armored_signature(b"short"), armored_signature(data).replace("A", "!")):
        with pytest.raises(ValueError, match="no armored"):
            dearmored(text)


def test_keys_are_read_from_gpgs_listing() -> None:
    secret, expired = _listed(LISTING)
    assert (secret.fingerprint, secret.user) == (
        "528C21A8B6026041AB302D8506E0BC0A434981CB",
        "a <a@x>",
    )
    assert (secret.secret, secret.usable, secret.expires) == (True, True, None)
    assert expired.fingerprint == "EC1C91EB96C1DC961A9D68CCC2A9A67763EDD796"
    assert (expired.secret, expired.usable, expired.expires) == (False, False, 1738281600)


def test_ways_to_sign(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.touch()
    assert parse_key(str(path), None) == FileKey(path)
    assert parse_key("gpg:AB", None) == AgentKey("AB")
    assert parse_key("command:ssh 'a b' sign", None) == CommandKey(("ssh", "a b", "sign"))
    for text in ("nothing", "command:", str(tmp_path)):
        with pytest.raises(UserError):
            parse_key(text, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("promote", "x", "--to", "r", "--key", "k", "--channel", "a"), "is no IMAGE_ID/VERSION"),
        (("promote", "../x", "--to", "r", "--key", "k", "--channel", "a"), "is no IMAGE_ID"),
        (("promote", "a/1", "--to", "r", "--key", "k"), "which channel?"),
        (("promote", "a/1", "--to", "r", "--key", "k", "--channel", "../a"), "lower-case letters"),
        (
            ("promote", "a/1", "--to", "r", "--key", "k", "--channel", "a", "--expires", "0d"),
            "no time such as",
        ),
        (
            ("promote", "a/1", "--to", "r", "--key", "k", "--channel", "a", "--minimum", "../1"),
            "is no version",
        ),
        (("verify", "https://x.example/", "--keyring", "k"), "k: cannot be read"),
        (("verify", "r", "--keyring", "k", "--channel", "stable"), "is no IMAGE_ID/CHANNEL"),
        (("keys", "new", "--to", "config/sites"), "lies in the project"),
        (("keys", "new", "--to", "/x", "--name", "../x"), "is no name for a key"),
    ],
)
def test_what_the_command_line_refuses(call: Call, words: tuple[str, ...], told: str) -> None:
    ended = call(*words)
    assert ended.code == 2, ended
    assert told in ended.err

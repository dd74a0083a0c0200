"""From the channel to the other slot and back, on a node made of folders."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgnode.update import offer
from imgnode.update import state as remembered
from imgnode.update.channel import Wishes, parse_channel
from imgnode.update.recipe import Recipe, parse_recipe
from imgnode.update.refused import (
    BUSY,
    DAMAGED,
    EXPIRED,
    FAILED_HERE,
    FETCH,
    OLDER,
    OTHER_IMAGE,
    REPLAYED,
    SIGNATURE,
    SITE,
    SPACE,
    TOO_LARGE,
    WRITE,
    Refused,
)
from imgnode.update.rollback import rollback
from imgnode.update.run import Order, alone, bring, check, install
from imgnode.update.settle import settle
from imgnode.update.stage import staged
from imgnode.update.state import Applied, State
from tests.unit.update_node import (
    IMAGE,
    NEW,
    NEW_ROOT,
    NEW_UKI,
    OLD,
    OLD_ROOT,
    Node,
    play,
)

pytestmark = pytest.mark.allow_commands("zstd")
STEM = f"{IMAGE}_{NEW}"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    played = play(tmp_path, monkeypatch)
    played.server.put(NEW)
    return played


def take(node: Node, order: Order | None = None) -> None:
    bring(node.facts, order or Order(), lambda _: None, node.root)


def put_in(node: Node) -> str:
    return install(node.facts, lambda _: None, node.root)


def refused(node: Node, kind: str, order: Order | None = None) -> str:
    """Assert that nothing is taken, for a reason; the other slot and the entries stay."""
    entries, labels = node.entries, list(node.labels)
    with pytest.raises(Refused) as caught:
        take(node, order)
    assert caught.value.kind == kind
    assert (node.entries, node.labels) == (entries, labels)
    assert staged(node.root) is None
    return str(caught.value)


def test_an_update_comes_by_patches_and_lands_in_the_other_slot(node: Node) -> None:
    take(node)
    ready = staged(node.root)
    assert ready is not None
    assert ready.patched
    assert ready.fetched < len(NEW_ROOT) // 10
    fetched = [path.rpartition("/")[2] for path in node.server.asked]
    assert not {"root.erofs.zst", "root.verity.zst", "uki.efi.zst"} & set(fetched)
    assert put_in(node) == NEW
    assert node.device(1, "root").read_bytes() == NEW_ROOT
    assert node.entries == [f"{IMAGE}_{OLD}.efi", f"{STEM}+3-0.efi"]
    assert (node.root / f"boot/EFI/Linux/{STEM}+3-0.efi").read_bytes() == NEW_UKI
    applied = remembered.load(node.root).applied
    assert applied is not None
    assert (applied.version, applied.before) == (NEW, OLD)
    assert staged(node.root) is None


@pytest.mark.parametrize("lack", ["patch", "running"])
def test_where_no_patch_fits_the_whole_is_fetched(node: Node, lack: str) -> None:
    if lack == "patch":
        node.image(version="2026.0")
        (node.root / f"boot/EFI/Linux/{IMAGE}_{OLD}.efi").rename(
            node.root / f"boot/EFI/Linux/{IMAGE}_2026.0.efi"
        )
        node.labels[0] = f"{IMAGE}_2026.0"
    else:
        (node.root / "dev/mapper/root").write_bytes(OLD_ROOT[:-1] + b"?")
    take(node)
    ready = staged(node.root)
    assert ready is not None
    assert not ready.patched
    assert f"{IMAGE}/{NEW}/root.erofs.zst" in node.server.asked
    assert put_in(node) == NEW


def test_what_runs_is_not_taken_again(node: Node) -> None:
    node.server.put(OLD)
    assert bring(node.facts, Order(), print, node.root) is None
    assert node.server.asked == [f"channels/{IMAGE}/stable.json.asc"]


def test_a_second_run_fetches_nothing_that_is_staged(node: Node) -> None:
    take(node)
    node.server.asked.clear()
    take(node)
    assert not [path for path in node.server.asked if path.endswith(("patch", "zst"))]


def test_a_signature_by_a_stranger(node: Node) -> None:
    node.server.bad_signature = True
    assert "its key is not in the keyring" in refused(node, SIGNATURE)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"serial": 6}, REPLAYED),
        ({"expires": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}, EXPIRED),
        ({"image_id": "imgbuild-other"}, OTHER_IMAGE),
        ({"channel": "canary"}, OTHER_IMAGE),
        ({"version": "../../etc"}, DAMAGED),
        ({"version": "a/b"}, DAMAGED),
        ({"serial": True}, DAMAGED),
        ({"expires": 7}, DAMAGED),
        ({"schema_version": 2}, DAMAGED),
        ({"sums_sha256": "0" * 64}, DAMAGED),
    ],
)
def test_a_channel_file_that_is_not_for_us_now(
    node: Node, changes: dict[str, Any], kind: str
) -> None:
    remembered.save(State(serials={"stable": 7}), node.root)
    node.server.channel(**{"version": NEW, "sums_sha256": "1" * 64, **changes})
    refused(node, kind)


def test_a_serial_that_was_seen_is_remembered(node: Node) -> None:
    check(node.facts, Order(), node.root)
    assert remembered.load(node.root).serials == {"stable": 7}
    node.server.put(NEW, serial=3)
    refused(node, REPLAYED)


def test_an_older_version_only_when_told(node: Node) -> None:
    node.image(version="2027.1")
    node.labels[0] = f"{IMAGE}_2027.1"
    refused(node, OLDER)
    take(node, Order(wishes=Wishes(older=True)))
    assert staged(node.root) is not None


def test_a_version_that_failed_here_only_when_told(node: Node) -> None:
    remembered.save(State().with_failed(NEW, "no token"), node.root)
    assert f"{NEW} did not come up on this node: no token" in refused(node, FAILED_HERE)
    take(node, Order(wishes=Wishes(failed=True)))
    assert put_in(node) == NEW
    assert remembered.load(node.root).failed == {}


@pytest.mark.parametrize(
    "name",
    [
        "release.json",
        "manifest.json",
        "SHA256SUMS",
        f"root.from-{OLD}.zstpatch",
        f"uki.from-{OLD}.zstpatch",
    ],
)
def test_a_flipped_bit_in_any_file(node: Node, name: str) -> None:
    data = bytearray(node.server.files[f"{IMAGE}/{NEW}/{name}"])
    data[len(data) // 2] ^= 1
    node.server.edit(NEW, name, bytes(data))
    assert name in refused(node, DAMAGED)


def test_a_file_that_is_missing_or_too_long(node: Node) -> None:
    whole = node.server.files.pop(f"{IMAGE}/{NEW}/root.from-{OLD}.zstpatch")
    assert "404" in refused(node, FETCH)
    node.server.edit(NEW, f"root.from-{OLD}.zstpatch", whole + b"x")
    refused(node, FETCH)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("install_as", "../../../etc/passwd"),
        ("install_as", "imgbuild-other_9.efi"),
        ("name", "root.erofs2"),
        ("bytes", -1),
        ("bytes", 1 << 50),
        ("full", {"name": "a/b", "bytes": 1, "sha256": "0" * 64}),
    ],
)
def test_a_signed_release_that_would_leave_its_folder(
    node: Node, monkeypatch: pytest.MonkeyPatch, key: str, value: object
) -> None:
    """Even what is signed is read with care: a build host may be broken."""

    def altered(values: dict[str, Any]) -> Recipe:
        values["parts"][0][key] = value
        return parse_recipe(values)

    monkeypatch.setattr(offer, "parse_recipe", altered)
    refused(node, DAMAGED)


def test_a_root_whose_tree_is_another(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgnode.update.stage.write_tree", lambda *_, **__: "0" * 64)
    assert "has another root hash than it names" in refused(node, DAMAGED)


def test_a_slot_that_is_too_small(node: Node) -> None:
    node.slot_bytes = 1024
    assert "the slot 1024" in refused(node, TOO_LARGE)


def test_a_full_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgnode.update.stage._MARGIN", 1 << 60)
    assert "are needed on /var" in refused(node, SPACE)


def test_a_site_without_a_release_server(node: Node) -> None:
    node.image(releases=None)
    with pytest.raises(Refused) as caught:
        _ = node.facts
    assert caught.value.kind == SITE


def test_a_version_on_trial_never_overwrites_the_good_one(node: Node) -> None:
    take(node)
    good = node.root / f"boot/EFI/Linux/{IMAGE}_{OLD}.efi"
    good.rename(good.with_name(f"{IMAGE}_{OLD}+2-1.efi"))
    with pytest.raises(Refused) as caught:
        put_in(node)
    assert caught.value.kind == BUSY
    assert node.labels[1] == "_empty"


def test_what_rots_in_the_staging_folder_is_not_written(node: Node) -> None:
    take(node)
    (root,) = node.stage.glob("*/*.root.raw")
    root.write_bytes(NEW_ROOT[:-1] + b"?")
    with pytest.raises(Refused) as caught:
        put_in(node)
    assert caught.value.kind == DAMAGED
    assert node.labels[1] == "_empty"
    assert staged(node.root) is None


def test_a_slot_that_does_not_hold_what_was_written_gets_no_entry(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(node)
    genuine = node._sysupdate

    def failing(version: str) -> None:
        genuine(version)
        node.device(1, "root").write_bytes(NEW_ROOT[:-1] + b"?")

    monkeypatch.setattr(node, "_sysupdate", failing)
    with pytest.raises(Refused) as caught:
        put_in(node)
    assert caught.value.kind == WRITE
    assert node.entries == [f"{IMAGE}_{OLD}.efi"]


def test_no_other_entry_is_left_when_the_slot_is_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that of the version before, nor what a power cut has left."""
    take(node)
    folder = node.root / "boot/EFI/Linux"
    for name in (
        f"{IMAGE}_2025.9.efi",
        f"{STEM}+3-0.efi",
        f".#sysupdate{STEM}.efi77",
        "FSCK0000.000",
    ):
        (folder / name).write_bytes(b"")
    (folder / "rescue.efi").write_bytes(b"somebody's own")
    genuine, seen = node._sysupdate, []

    def looking(version: str) -> None:
        seen.extend(node.entries)
        applied = remembered.load(node.root).applied
        assert applied
        assert applied.version == NEW
        genuine(version)

    monkeypatch.setattr(node, "_sysupdate", looking)
    put_in(node)
    assert seen == [f"{IMAGE}_{OLD}.efi", "rescue.efi"]


def test_a_slot_that_has_the_name_already_is_written_again(node: Node) -> None:
    """After a rollback by hand, or a power cut between the partitions' names and the entry."""
    take(node)
    node.labels[1] = STEM
    put_in(node)
    assert node.labels[1] == STEM
    assert f"{STEM}+3-0.efi" in node.entries


def test_two_runs_at_once(node: Node) -> None:
    with alone(node.root), pytest.raises(Refused) as caught, alone(node.root):
        pass
    assert caught.value.kind == BUSY


@pytest.mark.parametrize(
    ("entry", "running", "applied", "failed"),
    [
        ("+3-0", OLD, True, False),  # not started yet
        ("+1-2", NEW, True, False),  # on trial
        ("", NEW, False, False),  # good
        ("+0-3", OLD, False, True),  # left behind
        (None, OLD, False, False),  # taken away
    ],
)
def test_what_became_of_the_last_update(
    node: Node, entry: str | None, running: str, applied: bool, failed: bool
) -> None:
    remembered.save(State(applied=Applied(NEW, OLD, 5)), node.root)
    if entry is not None:
        (node.root / f"boot/EFI/Linux/{STEM}{entry}.efi").touch()
    node.image(version=running)
    state = settle(node.facts, node.root)
    assert (state.applied is not None) is applied
    assert (NEW in state.failed) is failed
    assert remembered.load(node.root) == state
    assert (state.updated is not None) is (running == NEW and not applied)


def test_the_way_back_by_hand(node: Node) -> None:
    take(node)
    put_in(node)
    node.image(version=NEW)
    (node.root / f"boot/EFI/Linux/{STEM}+3-0.efi").rename(node.root / f"boot/EFI/Linux/{STEM}.efi")
    node.labels[:] = [f"{IMAGE}_{OLD}", STEM]
    assert rollback(node.facts, node.root) == OLD
    assert node.entries == [f"{IMAGE}_{OLD}.efi", f"{STEM}+0-3.efi"]
    node.image(version=OLD)
    assert "rolled back by hand" in refused(node, FAILED_HERE)


@pytest.mark.parametrize("other", ["empty", "left behind"])
def test_no_way_back_to_nothing(node: Node, other: str) -> None:
    if other == "left behind":
        node.labels[1] = STEM
        (node.root / f"boot/EFI/Linux/{STEM}+0-3.efi").touch()
    with pytest.raises(Refused) as caught:
        rollback(node.facts, node.root)
    assert caught.value.kind == WRITE
    assert f"{IMAGE}_{OLD}.efi" in node.entries


def test_a_channel_with_a_minimum() -> None:
    text = json.dumps(
        {
            "schema_version": 1,
            "image_id": IMAGE,
            "channel": "stable",
            "serial": 1,
            "version": NEW,
            "sums_sha256": "0" * 64,
            "minimum": OLD,
            "expires": "2030-01-01T00:00:00Z",
        }
    )
    assert parse_channel(text).minimum == OLD
    with pytest.raises(ValueError, match="does not fit"):
        parse_channel(text.replace(OLD, "a b"))

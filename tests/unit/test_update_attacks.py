"""A server that means harm against the real `imgnode update`: real curl, gpgv and zstd.

Each attack is refused and told, writes nothing but what is staged, leaves the other slot and its
entry alone, and costs nothing later: an honest server is taken at the next try.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgnode import cli, process
from imgnode.commands import update as command
from imgnode.download import Patience
from imgnode.release.signature import KEYRING
from imgnode.update import refused
from imgnode.update.stage import STAGE
from imgnode.update.state import State, load, save
from tests.unit import hostile
from tests.unit.hostile import Key, Site
from tests.unit.update_node import (
    IMAGE,
    NEW,
    NEW_ROOT,
    OLD,
    OLD_ROOT,
    Node,
    Texts,
    blocks,
    furnish,
)

pytestmark = pytest.mark.allow_commands("prlimit", "gpg", "gpgv", "zstd")
OTHER, SERIAL = "2026.3", 7
LAYER = hashlib.sha256(b"layer").hexdigest()
FOREIGN = blocks("the fallback version", 4)
CHANNEL = f"channels/{IMAGE}/stable.json.asc"
# Where an update writes before everything is known to be good.
STAGING = (
    f"{STAGE}/",
    "var/lib/imgnode/layers/.part/",
    f"var/lib/imgnode/layers/versions/{IMAGE}_{NEW}.json",
    "run/imgnode/",
)
STATE = "var/lib/imgnode/update/state.json"
PATCHES = (f"root.from-{OLD}.zstpatch", f"uki.from-{OLD}.zstpatch")
WHOLE = ("root.erofs.zst", "uki.efi.zst")
TEXTS = ("SHA256SUMS", "SHA256SUMS.gpg", "release.json", "manifest.json")
ARTIFACTS = ("stable.json.asc", *TEXTS, *PATCHES, *WHOLE, f"{LAYER}.erofs")


class Stage:
    """A node whose other slot holds a version to go back to, and a server with a newer one."""

    def __init__(self, node: Node, site: Site, key: Key, stranger: Key) -> None:
        self.node, self.site, self.key, self.stranger = node, site, key, stranger
        self.server, self.root = node.server, node.root

    def file(self, name: str) -> str:
        """Return the path of an artifact on the server."""
        return next(path for path in self.site.files if path.endswith(name) and OTHER not in path)

    def without_patches(self) -> None:
        """Let the running root be another than the patches start from."""
        (self.root / "dev/mapper/root").write_bytes(OLD_ROOT[:-1] + b"?")
        (self.root / f"boot/EFI/Linux/{IMAGE}_{OLD}.efi").write_bytes(b"?")

    def seen(self) -> dict[str, str]:
        """Return everything on the node that is not staging, by name."""
        found = {}
        for path in sorted(self.root.parent.rglob("*")):
            name = str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name
            if path.is_file() and not name.startswith(STAGING) and name != STATE:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Key, Key]]:
    folder = tmp_path_factory.mktemp("keys")
    made = (Key.make(folder / "site"), Key.make(folder / "stranger"))
    yield made
    for one in made:
        one.forget()


@pytest.fixture
def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[Key, Key]
) -> Iterator[Stage]:
    node = furnish(tmp_path)
    node.genuine = ("prlimit", "gpgv", "zstd")
    node.labels[1] = f"{IMAGE}_2025.9"
    for kind in ("root", "verity"):
        node.device(1, kind).write_bytes(FOREIGN)
    (node.root / f"boot/EFI/Linux/{IMAGE}_2025.9.efi").write_bytes(FOREIGN)
    ring = node.root / KEYRING
    ring.parent.mkdir(parents=True, exist_ok=True)
    ring.write_bytes(keys[0].public)
    node.server.sign = keys[0].sign
    node.server.layers = {LAYER: blocks("layer", 4)}
    node.server.put(NEW, serial=SERIAL)
    monkeypatch.setattr(command, "_ROOT", node.root)
    monkeypatch.setattr(Patience, "gone", True)  # one try of each file
    monkeypatch.setattr(process, "run", node.run)
    with hostile.serving(node.server.files) as site:
        node.image(releases=site.address)
        yield Stage(node, site, *keys)


def apply(*words: str) -> int:
    """Run the command; return what it ends with."""
    try:
        cli.main(["update", "apply", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def metric(stage: Stage, kind: str) -> bool:
    text = (stage.root / "run/imgnode/metrics/update.prom").read_text()
    return f'imgnode_update_error{{kind="{kind}"}} 1' in text


def repels(stage: Stage, kind: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Assert that an attack comes to nothing; return what is said of it."""
    before, labels = stage.seen(), list(stage.node.labels)
    assert apply() == 1
    said = capsys.readouterr().err
    assert f"update: {kind}: " in said
    assert metric(stage, kind)
    told = json.loads((stage.root / "run/imgnode/update.json").read_text())
    assert told["error"]["kind"] == kind
    assert stage.seen() == before
    assert stage.node.labels == labels
    assert not any(Path(words[0]).name == "systemd-sysupdate" for words in stage.node.ran)
    state = load(stage.root)
    assert (state.applied, dict(state.failed)) == (None, {})
    assert state.serials.get("stable", SERIAL) <= SERIAL + 1
    return said


def recovers(stage: Stage) -> None:
    """Assert that an honest server is taken after an attack."""
    stage.site.lies.clear()
    stage.server.files.clear()
    stage.server.put(NEW, serial=SERIAL + 1)
    assert apply() == 0
    assert stage.node.device(1, "root").read_bytes() == NEW_ROOT
    assert f"{IMAGE}_{NEW}+3-0.efi" in stage.node.entries
    assert (stage.root / f"var/lib/imgnode/layers/{LAYER}.erofs").exists()


def test_without_an_attack(stage: Stage) -> None:
    """The stage itself: everything that is attacked below is asked for."""
    assert apply() == 0
    assert stage.node.device(1, "root").read_bytes() == NEW_ROOT
    asked = {Path(path).name for path in stage.site.asked}
    assert set(ARTIFACTS) - set(WHOLE) <= asked
    assert "root.verity.zst" not in asked


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {
    "stable.json.asc": refused.SIGNATURE,
    "SHA256SUMS.gpg": refused.SIGNATURE,
    f"{LAYER}.erofs": refused.FETCH,
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_flipped_bit(stage: Stage, capsys: pytest.CaptureFixture[str], name: str) -> None:
    if name in WHOLE:
        stage.without_patches()
    path = stage.file(name)
    stage.site.files[path] = flipped(stage.site.files[path])
    told = name.removesuffix(".gpg")
    assert told in repels(stage, DAMAGE.get(name, refused.DAMAGED), capsys)
    recovers(stage)


LIES: dict[str, hostile.Answer] = {
    "truncated": hostile.truncated,
    "endless": hostile.endless,
    "endless head": hostile.endless_head,
    "redirect": hostile.elsewhere(302, ""),
    "redirect for ever": hostile.elsewhere(308, ""),
    "redirect to a file": hostile.elsewhere(302, "file:///etc/passwd"),
}
RARE = ("endless head", "redirect for ever", "redirect to a file")
ASKED = ("stable.json.asc", "SHA256SUMS", "manifest.json", PATCHES[0], WHOLE[0], f"{LAYER}.erofs")


@pytest.mark.parametrize(
    ("name", "lie"),
    [(name, lie) for name in ASKED for lie in LIES if lie not in RARE or name in ASKED[:4:3]],
)
def test_an_answer_that_lies(
    stage: Stage, capsys: pytest.CaptureFixture[str], name: str, lie: str
) -> None:
    """What the file would be stands at another host, which nobody must ask."""
    if name in WHOLE:
        stage.without_patches()
    path = stage.file(name)
    with hostile.serving(stage.site.files) as other:
        answer = LIES[lie]
        if lie in ("redirect", "redirect for ever"):
            code = 302 if lie == "redirect" else 308
            answer = hostile.elsewhere(code, f"{other.address}/{path}")
        stage.site.lies[name] = answer
        said = repels(stage, refused.FETCH, capsys)
        assert other.asked == []
    if lie.startswith("redirect"):
        assert "redirects elsewhere" in said
    sizes = [one.stat().st_size for one in stage.root.rglob("*") if one.is_file()]
    assert max(sizes) < 1 << 20
    recovers(stage)


@pytest.mark.parametrize("name", ["stable.json.asc", "SHA256SUMS", PATCHES[0], f"{LAYER}.erofs"])
def test_half_a_file_as_if_it_were_all(
    stage: Stage, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    stage.site.lies[name] = hostile.short
    repels(stage, DAMAGE.get(name, refused.DAMAGED), capsys)
    recovers(stage)


def swap(stage: Stage, name: str, other: str) -> None:
    stage.site.files[stage.file(name)] = stage.site.files[other]


def of_the_other(*names: str) -> Callable[[Stage], None]:
    """Return an attack that puts files of another release, all of them signed, in their places."""

    def attack(stage: Stage) -> None:
        channel = stage.site.files[CHANNEL]
        stage.server.put(OTHER)
        stage.site.files[CHANNEL] = channel
        for name in names:
            stage.site.files[f"{IMAGE}/{NEW}/{name}"] = stage.site.files[f"{IMAGE}/{OTHER}/{name}"]

    return attack


def other_image(stage: Stage) -> None:
    stage.server.channel(NEW, image_id="imgbuild-other", sums_sha256="0" * 64)


def other_channel(stage: Stage) -> None:
    stage.server.channel(NEW, channel="canary", sums_sha256="0" * 64)


def patches_swapped(stage: Stage) -> None:
    swap(stage, PATCHES[0], stage.file(PATCHES[1]))


def layer_swapped(stage: Stage) -> None:
    swap(stage, f"{LAYER}.erofs", stage.file("manifest.json"))


def tree_for_root(stage: Stage) -> None:
    stage.without_patches()
    swap(stage, "root.erofs.zst", stage.file("root.verity.zst"))


def replayed(stage: Stage) -> None:
    save(State(serials={"stable": SERIAL + 1}), stage.root)


def expired(stage: Stage) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    stage.server.put(NEW, serial=SERIAL, expires=past)


def older(stage: Stage) -> None:
    stage.server.put("2026.0", serial=SERIAL)


def by_a_stranger(stage: Stage) -> None:
    stage.server.sign = stage.stranger.sign
    stage.server.put(NEW, serial=SERIAL)


def sums_by_a_stranger(stage: Stage) -> None:
    sums = stage.site.files[stage.file("SHA256SUMS")]
    stage.site.files[stage.file("SHA256SUMS.gpg")] = stage.stranger.sign(sums)


def not_signed(stage: Stage) -> None:
    text, _, _ = stage.site.files[CHANNEL].partition(b"-----BEGIN")
    stage.site.files[CHANNEL] = text


def signed_elsewhere(stage: Stage) -> None:
    """Put another text before a good signature."""
    text, begin, rest = stage.site.files[CHANNEL].partition(b"-----BEGIN")
    stage.site.files[CHANNEL] = text.replace(NEW.encode(), b"2026.9") + begin + rest


def text_behind(stage: Stage) -> None:
    stage.site.files[CHANNEL] += b'{"version": "2026.9"}\n'


ATTACKS: dict[Callable[[Stage], None], str] = {
    of_the_other("release.json"): refused.DAMAGED,
    of_the_other("manifest.json"): refused.DAMAGED,
    of_the_other("SHA256SUMS"): refused.DAMAGED,
    of_the_other("SHA256SUMS.gpg"): refused.SIGNATURE,
    of_the_other(*TEXTS): refused.DAMAGED,
    patches_swapped: refused.DAMAGED,
    layer_swapped: refused.FETCH,
    tree_for_root: refused.DAMAGED,
    other_image: refused.OTHER_IMAGE,
    other_channel: refused.OTHER_IMAGE,
    replayed: refused.REPLAYED,
    expired: refused.EXPIRED,
    older: refused.OLDER,
    by_a_stranger: refused.SIGNATURE,
    sums_by_a_stranger: refused.SIGNATURE,
    not_signed: refused.SIGNATURE,
    signed_elsewhere: refused.SIGNATURE,
    text_behind: refused.SIGNATURE,
}


@pytest.mark.parametrize(("attack", "kind"), ATTACKS.items())
def test_files_that_do_not_belong_here(
    stage: Stage,
    capsys: pytest.CaptureFixture[str],
    attack: Callable[[Stage], None],
    kind: str,
) -> None:
    attack(stage)
    repels(stage, kind, capsys)
    if kind != refused.REPLAYED:
        stage.server.sign = stage.key.sign
        recovers(stage)


OUT = "../" * 12 + "tmp/evil"
ABROAD: tuple[tuple[str, list[Any], Any], ...] = (
    ("release.json", ["parts", 0, "install_as"], OUT),
    ("release.json", ["parts", 0, "patches", 0, "name"], OUT),
    ("release.json", ["parts", 0, "patches", 0, "name"], "x\n-o/tmp/evil"),
    ("release.json", ["parts", 2, "full", "name"], "/tmp/evil"),
    ("release.json", ["version"], OUT),
    ("manifest.json", ["version"], OUT),
    ("manifest.json", ["payload", "files", 0, "root_hash"], OUT),
    ("manifest.json", ["payload", "files", 0, "root_hash"], 7),
    ("manifest.json", ["payload", "files", 0, "bytes"], -1),
    ("manifest.json", ["payload", "files", 0, "bytes"], "1"),
    ("SHA256SUMS", [OUT], "0" * 64),
    ("SHA256SUMS", [".."], "0" * 64),
)


@pytest.mark.parametrize(("text", "place", "value"), ABROAD)
def test_signed_names_that_lead_out_of_their_folder(
    stage: Stage, capsys: pytest.CaptureFixture[str], text: str, place: list[Any], value: object
) -> None:
    """Signed by the right key: a build host may be broken, too."""

    def alter(texts: Texts) -> None:
        values: Any = texts[text]
        for key in place[:-1]:
            values = values[key]
        values[place[-1]] = value

    stage.server.put(NEW, alter, serial=SERIAL)
    kind = refused.OTHER_IMAGE if (text, place) == ("manifest.json", ["version"]) else None
    repels(stage, kind or refused.DAMAGED, capsys)


@pytest.mark.parametrize("version", [OUT, "a/b", "..", "-x", "a b", ""])
def test_a_signed_channel_that_leads_out(
    stage: Stage, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    stage.server.channel(version, sums_sha256="0" * 64)
    repels(stage, refused.DAMAGED, capsys)
    assert stage.site.asked == [CHANNEL]

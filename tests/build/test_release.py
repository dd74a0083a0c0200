"""Releases with real keys, real gpg and real zstd: made, moved, rotated, killed."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals

import pytest

from tests.build.archives import serve
from tests.build.orphans import no_orphans
from tests.build.press import ONLY, STABLE, Press, gpg_of, press, printed, run
from tests.build.small_image import IMAGE_ID

__all__ = ["press", "printed"]


def test_a_release_is_good_and_says_what_it_consists_of(printed: Press) -> None:
    assert printed.verify() == []
    assert printed.verify(*ONLY) == []
    assert printed.verify(where=printed.folder("1.0")) == []
    there = sorted(path.name for path in printed.folder("1.1").iterdir())
    assert there == [
        "SHA256SUMS",
        "SHA256SUMS.gpg",
        "disk.raw.bmap",
        "disk.raw.zst",
        "manifest.json",
        "release.json",
        "root.erofs.zst",
        "root.from-1.0.zstpatch",
        "root.verity.zst",
        "uki.efi.zst",
        "uki.from-1.0.zstpatch",
    ]
    assert len(list((printed.repository / "layers").iterdir())) == 2
    said = json.loads((printed.folder("1.1") / "release.json").read_text())
    root = said["parts"][0]
    assert root["patches"][0]["bytes"] < 20_000 < root["full"]["bytes"]
    printed.place.nothing_at_work()


def test_plain_tools_agree(press: Press) -> None:
    """What an operator has at hand: sha256sum, zstd, gpgv; no imgbuild."""
    folder = press.folder("1.1")
    run("sha256sum", "--check", "--ignore-missing", "--strict", "SHA256SUMS", cwd=folder)
    run("zstd", "-qd", "root.erofs.zst", "-o", "again", cwd=folder)
    assert (folder / "again").read_bytes() == (press.image("1.1") / "root.erofs").read_bytes()
    for name in ("SHA256SUMS.gpg", "SHA256SUMS"):
        assert (folder / name).is_file()
    run("gpgv", "--keyring", str(press.public("one")), "SHA256SUMS.gpg", "SHA256SUMS", cwd=folder)
    signed = press.channel("stable")
    text = signed.read_text().partition("-----BEGIN")[0]
    (folder / "text").write_text(text)
    run("gpgv", "--keyring", str(press.public("one")), str(signed), "text", cwd=folder)


def test_the_same_image_gives_the_same_sums(press: Press) -> None:
    before = (press.folder("1.1") / "SHA256SUMS").read_bytes()
    shutil.rmtree(press.folder("1.1"))
    press.release("1.1", "--with-disk")
    assert (press.folder("1.1") / "SHA256SUMS").read_bytes() == before
    assert press.verify() == []


def test_a_second_run_changes_nothing_but_the_serial(press: Press) -> None:
    before = _identity(press.folder("1.1"))
    old = press.channel("stable").read_text()
    press.release("1.1", *STABLE)
    assert _identity(press.folder("1.1")) == before
    new = press.channel("stable").read_text()
    serials = [int(re.findall(r'"serial": (\d+)', text)[0]) for text in (old, new)]
    assert serials[1] > serials[0]
    assert '"minimum": "1.0"' in new


def _identity(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_version_is_never_replaced(press: Press) -> None:
    image = press.image("1.1")
    shutil.copytree(press.image("1.0"), press.place.top / "other")
    manifest = press.place.top / "other/manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": "1.0"', '"version": "1.1"'))
    words = ("release", str(manifest.parent), *press.words("1.1")[2:])
    press.place.run(*words).refused("1.1", "published already, with other content")
    (press.folder("1.1") / "root.erofs.zst").unlink()
    press.place.run(*press.words("1.1")).refused("root.erofs.zst: is missing or cut short")
    (image / "uki.efi").write_bytes(b"x" * (image / "uki.efi").stat().st_size)
    shutil.rmtree(press.folder("1.1"))
    press.place.run(*press.words("1.1")).refused("uki.efi: is not the file that manifest.json")
    assert not press.folder("1.1").exists()


def test_an_unknown_key_and_two_keys(press: Press) -> None:
    found = press.verify(key="two")
    for name in (f"{IMAGE_ID}/1.0/SHA256SUMS", f"channels/{IMAGE_ID}/stable.json.asc"):
        assert f"{name}: its key is not in the keyring" in found
    shutil.rmtree(press.repository)
    both = ("--key", str(press.secret("two")))
    press.release("1.0", *both)
    press.release("1.1", *STABLE, *both)
    assert press.verify() == press.verify(key="two") == []
    keyring = press.place.top / "both.gpg"
    keyring.write_bytes(press.public("one").read_bytes() + press.public("two").read_bytes())
    press.place.run("verify", str(press.repository), "--keyring", str(keyring)).done()


def test_a_bill_of_another_image_is_refused(press: Press) -> None:
    """Such as one that was made before the image was built anew."""
    image = {"name": "imgbuild-tiny", "version": "1.1"}
    said = {"metadata": {"component": image}, "components": []}
    (press.image("1.2") / "sbom.cdx.json").write_text(json.dumps(said))
    words = press.words("1.2")
    press.place.run(*words).refused("sbom.cdx.json: tells of another image", "imgbuild sbom")
    assert not press.folder("1.2").exists()


def test_rotation_from_one_key_to_the_next(press: Press) -> None:
    """Nodes that trust both take releases of either; a promotion needs to know the old one."""
    press.image("1.2")
    press.release("1.2", *STABLE, key="two")
    words = ("promote", f"{IMAGE_ID}/1.1", "--to", str(press.repository), "--channel", "old")
    new = ("--key", str(press.secret("two")))
    press.place.run(*words, *new).refused("its key is not in the keyring")
    both = ("--keyring", str(press.public("one")), "--keyring", str(press.public("two")))
    press.place.run(*words, *new, *both).done()
    ended = press.place.run("verify", str(press.repository), *both)
    assert ended.code == 0, ended
    assert press.verify(key="two") != []


def test_channels_move_forward(press: Press) -> None:
    to = ("--to", str(press.repository), "--key", str(press.secret("one")), *STABLE)
    back = ("promote", f"{IMAGE_ID}/1.0", *to)
    press.place.run(*back).refused("is at 1.1, and 1.0 is older")
    press.place.run(*back, "--allow-older").done()
    assert press.verify(*ONLY) == []
    press.place.run("promote", f"{IMAGE_ID}/9", *to).refused("there is no such version")
    assert '"version": "1.0"' in press.channel("stable").read_text()


def test_an_expired_channel(press: Press) -> None:
    text = press.channel("stable").read_text().partition("-----BEGIN")[0]
    text = re.sub(r'"expires": "[^"]+"', '"expires": "2026-01-01T00:00:00Z"', text)
    with gpg_of(press) as gpg:
        (press.place.top / "text").write_text(text)
        words = ("--armor", "--output", "signature", "--detach-sign", "text")
        run(*gpg, *words, cwd=press.place.top)
    press.channel("stable").write_text(text + (press.place.top / "signature").read_text())
    name = f"channels/{IMAGE_ID}/stable.json.asc"
    assert press.verify() == [f"{name}: has expired on 2026-01-01 00:00 UTC"]


def test_promoting_never_signs_what_somebody_else_put_there(press: Press) -> None:
    to = ("--to", str(press.repository), "--key", str(press.secret("one")))
    shutil.copytree(press.folder("1.1"), press.folder("1.9"))
    words = ("promote", f"{IMAGE_ID}/1.9", *to, *STABLE)
    press.place.run(*words).refused("release.json: is imgbuild-tiny/1.1")
    sums = press.folder("1.9") / "SHA256SUMS"
    sums.chmod(0o644)
    sums.write_text(sums.read_text().replace("manifest", "manifesto"))
    press.place.run(*words).refused("of other bytes")
    assert '"version": "1.1"' in press.channel("stable").read_text()


def test_a_channel_on_a_web_server(press: Press) -> None:
    with serve(press.repository) as server:
        assert press.verify(*ONLY, where=server.uri) == []
        words = ("verify", server.uri, "--keyring", str(press.public("one")))
        press.place.run(*words).refused("which channel?")
        assert "cannot be read" in press.verify("--channel", f"{IMAGE_ID}/no", where=server.uri)[0]
        path = press.folder("1.1") / "uki.efi.zst"
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b"x" * (1 << 21))
        found = press.verify(*ONLY, where=server.uri)
        assert found == [f"{IMAGE_ID}/1.1/uki.efi.zst: is not the file that was signed"]
        assert press.verify(*ONLY, key="two", where=server.uri) != []
    press.place.nothing_at_work()


def test_keys(press: Press) -> None:
    assert press.secret("one").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" in press.secret("one").read_bytes()
    ended = press.place.run("keys", "show", str(press.public("one")), str(press.secret("one")))
    assert re.findall(r"([0-9A-F]{40}) +(public|secret) .* never +good", ended.out)
    again = ("keys", "new", "--to", str(press.place.top / "keys"), "--name", "one")
    press.place.run(*again).refused("there is a key of that name")
    press.place.run("verify", str(press.repository), "--keyring", str(press.secret("one"))).refused(
        "holds a secret key"
    )
    press.place.run("keys", "show", str(press.folder("1.0") / "uki.efi.zst")).refused(
        "is no file of"
    )
    words = _with_key(press.words("1.0"), str(press.public("one")))
    press.place.run(*words).refused("none of them secret")


def test_a_key_with_a_passphrase(press: Press) -> None:
    secret = press.place.top / "passphrase"
    secret.write_text("open sesame\n")
    press.key("locked", "--passphrase-file", str(secret))
    press.image("1.2")
    press.place.run(*press.words("1.2", key="locked")).refused("--passphrase-file")
    assert not press.folder("1.2").exists()
    words = press.words("1.2", "--passphrase-file", str(secret), "--debug", key="locked")
    ended = press.place.run(*words)
    ended.done()
    assert "sesame" not in ended.err + ended.out
    assert press.verify(key="locked", where=press.folder("1.2")) == []


def test_a_command_and_an_agent_that_sign(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    with gpg_of(press) as gpg:
        script = press.place.top / "sign.sh"
        script.write_text(f"#!/bin/sh\nexec {' '.join(gpg)} --armor --detach-sign\n")
        script.chmod(0o755)
        words = _with_key(press.words("1.2"), f"command:{script}")
        press.place.run(*words).refused("needs --keyring")
        press.place.run(*words, "--keyring", str(press.public("two"))).refused("not be accepted")
        press.place.run(*words, "--keyring", str(press.public("one"))).done()
        listing = press.place.run("keys", "show", str(press.public("one"))).out
        fingerprint = re.findall(r"[0-9A-F]{40}", listing)[0]
        monkeypatch.setenv("GNUPGHOME", gpg[-1])
        press.place.run(*_with_key(press.words("1.3"), f"gpg:{fingerprint}")).done()
    assert press.verify() == []


def _with_key(words: tuple[str, ...], key: str) -> list[str]:
    at = words.index("--key") + 1
    return [*words[:at], key, *words[at + 1 :]]


@pytest.mark.parametrize("number", [SIGKILL, SIGINT])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_while_it_signs(press: Press, call: int, number: Signals) -> None:
    """The first signature is a try, the second that of the sums, the third the channel's."""
    before = press.channel("stable").read_text()
    count = press.place.top / "count"
    with gpg_of(press) as gpg, no_orphans():
        script = press.place.top / "sign.sh"
        script.write_text(
            f'#!/bin/sh\necho x >> {count}\n[ "$(wc -l < {count})" = {call} ] && sleep 600\n'
            f"exec {' '.join(gpg)} --armor --detach-sign\n"
        )
        script.chmod(0o755)
        words = _with_key(press.words("1.2", *STABLE), f"command:{script}")
        running = press.place.start(*words, "--keyring", str(press.public("one")))
        _wait(lambda: count.exists() and len(count.read_text().split()) == call)
        ended = running.hit(number)
    if number == SIGINT:
        ended.refused("interrupted")
        press.place.nothing_at_work()
        assert not list(press.repository.rglob(".*"))
    assert press.channel("stable").read_text() == before
    assert press.folder("1.2").exists() == (call == 3)
    assert press.verify(*ONLY) == []
    press.release("1.2", *STABLE)
    assert press.verify() == []
    assert '"version": "1.2"' in press.channel("stable").read_text()


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)

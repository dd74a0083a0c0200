"""Releases of real images: profile bare with a site's release keys, in two versions."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.build.command import Place
from tests.build.conftest import Warm

SITE = """\
release_keys:
  - keyring: release.gpg
    fingerprints: [{fingerprint}]
"""
_LIMIT_S = 60.0


@pytest.fixture
def keyed(built: Place, warm: Warm) -> Place:
    """The project of the warm build, whose site names a release key."""
    warm.fill(built.cache)
    made = built.run("keys", "new", "--to", str(built.top / "keys"), "--name", "release")
    made.done()
    fingerprint = made.out.split()[-1]
    (built.project / "config/sites/release.gpg").write_bytes(
        (built.top / "keys/release.gpg").read_bytes()
    )
    site = built.project / "config/sites/debian.yaml"
    site.write_text(site.read_text() + SITE.format(fingerprint=fingerprint))
    return built


def test_two_versions_from_build_to_node(keyed: Place) -> None:
    """Build, release, change a file, build, release: the patch is small, the root has the key."""
    old, new = keyed.top / "old", keyed.top / "new"
    _build(keyed, "1.0", old)
    keyed.write("overlays/base/etc/note", "changed\n")
    _build(keyed, "1.1", new)
    repository = keyed.top / "repo"
    to = ("--to", str(repository), "--key", str(keyed.top / "keys/release.secret.asc"))
    _killed(keyed, ("release", str(old), *to), repository / "imgbuild-bare/.1.0.part")
    keyed.run("release", str(old), *to).done()
    keyed.run("release", str(new), *to, "--channel", "stable").done()
    trusted = _from_root(keyed, new, "usr/lib/imgnode/release-keyring.gpg")
    checked = keyed.run("verify", str(repository), "--keyring", str(trusted))
    assert checked.code == 0, checked
    assert checked.out.count("good: ") == 3
    said = json.loads((repository / "imgbuild-bare/1.1/release.json").read_text())
    for part, share in (("root.erofs", 0.03), ("uki.efi", 0.001)):
        one = next(one for one in said["parts"] if one["name"] == part)
        assert one["patches"][0]["bytes"] < share * one["full"]["bytes"]
    assert _from_root(keyed, new, "usr/bin/gpgv").stat().st_size > 100_000
    with (new / "initrd.cpio").open("rb") as stream:
        assert stream.read(6) == b"070701"  # newc, not compressed: what patches of the UKI rely on


def _build(place: Place, version: str, out: Path) -> None:
    if (place.project / "overlays").is_symlink():
        source = (place.project / "overlays").resolve()
        (place.project / "overlays").unlink()
        subprocess.run(["cp", "-a", source, place.project / "overlays"], check=True)
    words = ("build", "--profile", "bare", "--version", version, "--out", str(out))
    place.run(*words).done()


def _killed(place: Place, words: tuple[str, ...], part: Path) -> None:
    """Kill a release while it compresses: no version is there."""
    running = place.start(*words)
    end = time.monotonic() + _LIMIT_S
    while not (part / "root.erofs.zst").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert running.hit(SIGKILL).code == -SIGKILL
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def _from_root(place: Place, image: Path, name: str) -> Path:
    """Return a copy of a file in an image's root."""
    point, copy = place.top / "point", place.top / Path(name).name
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro", image / "root.erofs", point], check=True)
    try:
        copy.write_bytes((point / name).read_bytes())
    finally:
        subprocess.run(["umount", point], check=True)
    return copy


@pytest.mark.parametrize(
    ("fingerprints", "half", "told"),
    [
        ("", "secret", "holds a secret key"),
        ("0" * 40, "public", "not what fingerprints names"),
        ("", "gone", "there is no such file"),
        ("", "text", "is no file of OpenPGP keys"),
    ],
)
def test_a_site_with_a_bad_keyring(keyed: Place, fingerprints: str, half: str, told: str) -> None:
    keyring = keyed.project / "config/sites/release.gpg"
    match half:
        case "secret":
            keyring.write_bytes((keyed.top / "keys/release.secret.asc").read_bytes())
        case "gone":
            keyring.unlink()
        case "text":
            keyring.write_text("no key\n")
    site = keyed.project / "config/sites/debian.yaml"
    head = site.read_text().partition("release_keys:")[0]
    pins = f"    fingerprints: ['{fingerprints}']\n" if fingerprints else ""
    site.write_text(f"{head}release_keys:\n  - keyring: release.gpg\n{pins}")
    keyed.build().refused(told)
    keyed.nothing_half_written()

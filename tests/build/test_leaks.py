"""No artifact of an image has a credential, or a word of the host that built it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.build.command import Place
from tests.build.conftest import CHECKOUT, Warm
from tests.build.leaks import leaks
from tests.build.test_release_image import SITE

_SHORT = 6  # characters: shorter words stand anywhere
# What everybody has who has the package: keys of a self-test, examples, a token for a test hub.
PUBLISHED = re.compile(
    r"usr/lib/x86_64-linux-gnu/libgnutls\.so\.[0-9.]+: -----BEGIN "
    r"|/fsspec/implementations/.*: ://myuser:mypassword@"
    r"|/opentelemetry/semconv/.*: ://REDACTED:REDACTED@"
    r"|/transformers/(__pycache__/)?testing_utils\..*: hf_94wBhPGp6"
)
_DEPTH = 3  # parts of a path: "/root" and "/src" are no host's own


def words_of_the_host(warm: Warm) -> list[str]:
    """Return paths and names that only this host has."""
    folders = [CHECKOUT, warm.place.project, warm.cache, warm.place.top, Path.home()]
    words = [str(path) for path in folders if len(path.parts) >= _DEPTH]
    name = socket.gethostname()
    words += [name] if len(name) > _SHORT and not name.startswith(("localhost", "debian")) else []
    return [*words, "pytest-of-", "imgbuild/work/"]


def test_no_credentials_and_nothing_of_the_build_host(warm: Warm, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    found = leaks(warm.place.out, words_of_the_host(warm), point)
    assert [line for line in found if not PUBLISHED.search(line)] == []


@pytest.mark.long
def test_nor_in_anything_else_that_is_handed_on(built: Place, warm: Warm, tmp_path: Path) -> None:
    """Bills of materials, report, comparison, release, channel, installer."""
    image, handed, keys = tmp_path / "image", tmp_path / "handed", tmp_path / "keys"
    subprocess.run(["cp", "--archive", "--link", warm.place.out, image], check=True)
    env = {"IMGBUILD_CACHE": str(warm.cache)}

    def imgbuild(*words: str | Path) -> str:
        ended = built.run(*map(str, words), env=env)
        ended.done()
        return ended.out

    fingerprint = imgbuild("keys", "new", "--to", keys).split()[-1]
    imgbuild("sbom", image)
    imgbuild("report", image, "--to", handed / "report.html")
    told = imgbuild("diff", image, image, "--html", handed / "diff.html", "--json")
    (handed / "diff.json").write_text(told)
    to = ("--to", handed / "repo", "--key", keys / "release.secret.asc")
    imgbuild("release", image, *to, "--channel", "stable", "--with-disk")
    assert "BAD" not in imgbuild("verify", handed / "repo", "--keyring", keys / "release.gpg")
    shutil.copy(keys / "release.gpg", built.project / "config/sites")
    site = built.project / "config/sites/debian.yaml"
    site.write_text(site.read_text() + SITE.format(fingerprint=fingerprint))
    imgbuild("installer", "--profile", "bare", "--out", handed / "installer.efi")
    point = tmp_path / "point"
    point.mkdir()
    found = leaks(handed, [*words_of_the_host(warm), str(tmp_path)], point)
    assert [line for line in found if not PUBLISHED.search(line)] == []
    names = {path.name for path in handed.rglob("*")}
    assert names >= {"sbom.cdx.json", "sbom.spdx.json", "provenance.json", "SHA256SUMS.gpg"}
    assert names >= {"report.html", "diff.html", "stable.json.asc", "installer.efi"}


def test_the_build_says_how_it_was_made(warm: Warm) -> None:
    """Provenance names the files that lie there, and every package of the lock."""
    said = json.loads((warm.place.out / "provenance.json").read_text())
    subjects = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
    manifest = json.loads((warm.place.out / "manifest.json").read_text())
    assert subjects == {one["name"]: one["sha256"] for one in manifest["artifacts"]}
    inputs = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {one["digest"]["sha256"] for one in inputs}
    assert {one.sha256 for one in warm.lock.packages} <= digests

"""Two real versions, a kernel and a library security update between them: diff and report.

The older one has what Debian's last point release has; SHOTS=FOLDER keeps pictures of the pages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.build.boxed import add_box
from tests.build.command import Place, copy_project
from tests.build.conftest import CHECKOUT
from tests.provision.chromium import Here, browsing

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

OLDER = {
    "packages": "src:linux src:linux-signed-amd64 src:openssl",
    "release": "n=bookworm",  # security updates are in other suites
}
CHANGED = "units/system/imgnode-schema.service"
BOOT = """Startup finished in 4s (firmware) + 812ms (loader) + 3s (kernel) + 7s (initrd) +
26s (userspace)
8.467s imgnode-seed.service
5.293s systemd-resolved.service
"""
TESTS = """<testsuites><testsuite name="pytest">
<testcase classname="tests.vm.test_node" name="test_it_boots" time="61.5"/>
<testcase classname="tests.unit.test_disk" name="test_a_slot" time="0.25"/>
</testsuite></testsuites>
"""
CVE = re.compile(r"CVE-20\d\d-\d{4,}")
SCREENS = {"phone": (390, 844), "desk": (1280, 800)}


@dataclass(frozen=True)
class Pair:
    """A project, and the folders of two versions of profile boxed."""

    place: Place
    old: Path
    new: Path

    def run(self, *words: str) -> str:
        """Run `imgbuild` with the cache that built the versions; return what it printed."""
        cache = {"IMGBUILD_CACHE": str(CHECKOUT / ".cache" / "imgbuild")}
        ended = self.place.run(*words, env=cache)
        ended.done()
        return ended.out


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = Place(tmp_path_factory.mktemp("versions"))
    made = Pair(place, place.out / "1.0", place.out / "1.1")
    copy_project(CHECKOUT, place.project, link=False)
    shutil.rmtree(place.project / "config/locks", ignore_errors=True)
    add_box(place)
    site, recipe, unit = (
        place.project / name
        for name in ("config/sites/debian.yaml", "image/containers/box/recipe.yaml", CHANGED)
    )
    texts = {path: path.read_text() for path in (site, recipe, unit)}
    values = yaml.safe_load(texts[site])
    values["pins"].append(OLDER)
    site.write_text(yaml.safe_dump(values))
    recipe.write_text(texts[recipe].replace("installer==0.7.0", "installer==0.6.0"))
    unit.write_text(f"{texts[unit]}# as it was\n")
    for version in (made.old, made.new):
        made.run("lock", "--profile", "boxed")
        words = ("--profile", "boxed", "--version", version.name, "--out", str(version))
        made.run("build", *words)
        for path, text in texts.items():
            path.write_text(text)
    yield made
    shutil.rmtree(place.top, ignore_errors=True)


@pytest.fixture(scope="module")
def found(pair: Pair) -> dict[str, Any]:
    """What `imgbuild diff --json` tells."""
    told: dict[str, Any] = json.loads(pair.run("diff", str(pair.old), str(pair.new), "--json"))
    return told


def test_a_security_update_of_kernel_and_library(found: dict[str, Any]) -> None:
    """Each package with its versions, what Debian says of them, and the CVE numbers in it."""
    packages = {one["name"]: one for one in found["packages"]}
    for name in ("libssl3", "openssl"):
        assert packages[name]["old"] < packages[name]["new"]
    kernels = [name for name in packages if re.match(r"linux-image-6\.1\.0-\d+-cloud", name)]
    assert sorted(packages[name]["old"] is None for name in kernels) == [False, True]
    logs = {one["source"]: one for one in found["changelogs"]}
    assert {"openssl", "linux-signed-amd64"} <= logs.keys()
    for source in ("openssl", "linux-signed-amd64"):
        entries = logs[source]["entries"]
        assert entries, source
        assert all(entry["text"] for entry in entries)
        cves = {cve for entry in entries for cve in entry["cves"]}
        assert cves, source
        assert all(CVE.fullmatch(cve) for cve in cves)
    assert "libssl3" in logs["openssl"]["packages"]


def test_files_units_sizes_and_the_kernel(found: dict[str, Any]) -> None:
    inside = found["contents"]
    files = {one["path"]: one for one in inside["files"]}
    library = files["usr/lib/x86_64-linux-gnu/libssl.so.3"]
    assert library["package"] == "libssl3"
    assert any(path.startswith("usr/lib/modules/") for path in files)
    assert inside["files_same"] > len(files) or inside["files_same"] > 1000
    assert [one["name"] for one in inside["units"]] == [Path(CHANGED).name]
    assert {one["package"] for one in inside["sizes"]} >= {"libssl3"}
    assert found["kernel"] is not None
    assert found["not_told"] == []


def test_layers_and_what_an_update_moves(found: dict[str, Any]) -> None:
    fates = {(one["part"]["title"], one["fate"]) for one in found["files"]}
    assert {fate for title, fate in fates if title == "one"} == {"new", "gone"}
    assert ("rest", "shared") in fates
    moved = {one["kind"]: one for one in found["update"]}
    assert moved["root"]["bytes"] == moved["root"]["of"] > 0
    assert 0 < moved["layer"]["bytes"] < moved["layer"]["of"]
    assert found["update_bytes"] == sum(one["bytes"] for one in found["update"])


def test_the_text_says_the_same(pair: Pair, found: dict[str, Any]) -> None:
    text = pair.run("diff", str(pair.old), str(pair.new))
    for part in ("libssl3", "changelog of openssl", "changelog of linux-signed", "names CVE-20"):
        assert part in text
    for part in (Path(CHANGED).name, "sizes in the root", "layers and models", "an update moves"):
        assert part in text
    whole = pair.run("diff", str(pair.old), str(pair.new), "--all")
    for log in found["changelogs"]:
        for entry in log["entries"]:
            assert all(cve in whole for cve in entry["cves"])
    assert "usr/lib/x86_64-linux-gnu/libssl.so.3" in whole


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_pages_in_a_browser(pair: Pair, found: dict[str, Any]) -> None:
    """The comparison's page, and the new version's report: whole, light and dark, nothing cut."""
    shots = Path(os.environ.get("SHOTS") or pair.place.top / "shots")
    shots.mkdir(parents=True, exist_ok=True)
    (pair.place.top / "boot.txt").write_text(BOOT)
    (pair.place.top / "tests.xml").write_text(TESTS)
    pair.run("sbom", str(pair.new))
    page = pair.place.top / "diff.html"
    pair.run("diff", str(pair.old), str(pair.new), "--html", str(page))
    pair.run("report", str(pair.new), "--boot", "boot.txt", "--tests", "tests.xml")
    cves = {cve for log in found["changelogs"] for one in log["entries"] for cve in one["cves"]}
    common = {"libssl3", "openssl", Path(CHANGED).name, "an update moves", *cves}
    _look(page, common, shots)
    told = {"Since 1.0", "Where the bytes are", "imgnode-seed.service", "Tests", "Build"}
    _look(pair.new / "report.html", common | told | {"firmware", "Bill of materials"}, shots)
    report = (pair.new / "report.html").read_text()
    assert "Not known" not in report
    assert "<script" not in report


def _look(file: Path, parts: set[str], shots: Path) -> None:
    with browsing(Here(), file.parent / "profile", file.as_uri()) as page:
        page.wait("document.readyState === 'complete' && document.title !== ''")
        text = page.evaluate("document.documentElement.textContent")
        assert [part for part in parts if part not in text] == []
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
        for screen, (width, height) in SCREENS.items():
            page.size(width, height, mobile=screen == "phone")
            for scheme in ("light", "dark"):
                page.scheme(scheme)
                assert page.fits(), f"{file.name} is wider than a {screen}"
                page.picture(shots / f"{file.stem}-{screen}-{scheme}.png", whole=True)
        assert page.errors == []
    shutil.rmtree(file.parent / "profile", ignore_errors=True)

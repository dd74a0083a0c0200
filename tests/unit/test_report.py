"""The page about an image: its pictures, its times, and that it needs nothing beside it."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from builder.compare.images import compare
from builder.compare.parts import parts
from builder.core.errors import UserError
from builder.core.events import Note, StageEnded, StageStarted
from builder.core.stopwatch import Stopwatch
from builder.model.inventory import FileEntry, Inventory
from builder.model.timeline import Span, Timeline
from builder.report.bill import read_summary
from builder.report.boot import read_boot
from builder.report.junit import Room, read_tests
from builder.report.page import share
from builder.report.report import Known, blocks, report_page
from builder.report.treemap import Block, Tile, treemap
from tests.unit.fakes import Events
from tests.unit.images import manifest, package
from tests.unit.resolve_project import Files, files
from tests.unit.test_cli import Call, call
from tests.unit.test_cli_images import write

__all__ = ["call", "files"]
BOOT = """Startup finished in 3.9s (firmware) + 812ms (loader) + 1min 2.5s (userspace) = 1min 7.2s
multi-user.target reached after 28.398s in userspace.
 812ms small.service
1min 2.100s large.service
"""
JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="tests.unit.test_a" name="test_one" time="1.5" />
<testcase classname="tests.unit.test_a" name="test_&lt;two&gt;" time="0.25">
<failure>x</failure></testcase>
<testcase classname="tests.unit.test_b.TestX" name="test_three"><skipped message="y"/></testcase>
<testcase classname="tests.vm.test_b" name="test_four" time="9"><error>z</error></testcase>
</testsuite></testsuites>"""


def inventory(**sizes: int) -> Inventory:
    files_ = {
        f"usr/{name}": FileEntry(kind="file", mode=0o644, uid=0, gid=0, bytes=size, package=name)
        for name, size in sizes.items()
    }
    return Inventory(files=files_, units={}, ports=(), users={}, groups={})


class Strict(HTMLParser):
    """Counts what is open, and keeps everything that leads outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.outside += [name for name, _ in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_tiles_fill_the_picture_in_proportion() -> None:
    tiles = treemap([Block("a", "x", 600), Block("a", "y", 200), Block("b", "z", 200)])
    assert [(tile.name, tile.group, tile.hue) for tile in tiles] == [
        ("x", "a", 0),
        ("y", "a", 0),
        ("z", "b", 1),
    ]
    areas = [tile.width * tile.height / 10_000 for tile in tiles]
    assert areas == pytest.approx([0.6, 0.2, 0.2], abs=0.001)
    for tile in tiles:
        assert tile.left + tile.width <= 100.01
        assert tile.top + tile.height <= 100.01


def test_nearly_all_is_not_all() -> None:
    told = [share(part, 1000) for part in (0, 5, 120, 994, 999, 1000)]
    assert told == ["0 %", "0.5 %", "12 %", "> 99 %", "> 99 %", "100 %"]
    assert share(1, 0) == "–"  # noqa: RUF001 - a dash


@pytest.mark.parametrize(
    ("name", "width", "height", "roomy"),
    [
        ("libc6", 8, 8, True),
        ("libc6", 4, 50, False),
        ("libc6", 50, 5, False),
        ("libpython3.11-stdlib", 8, 9, False),
        ("libpython3.11-stdlib", 8, 14, True),
    ],
)
def test_a_name_that_has_no_room_is_left_out(
    name: str, width: float, height: float, *, roomy: bool
) -> None:
    assert Tile(name, "a", 0, 1, 0, 0, width, height).is_roomy is roomy


def test_what_is_too_small_is_put_together() -> None:
    many = [Block("a", f"s{n}", 1) for n in range(5)]
    tiles = treemap([Block("a", "x", 10_000), *many, Block("b", "one", 1), Block("c", "none", 0)])
    assert [(tile.name, tile.bytes) for tile in tiles] == [
        ("x", 10_000),
        ("5 smaller ones", 5),
        ("one", 1),
    ]
    assert treemap([]) == []


def test_the_root_is_shared_out_among_its_packages() -> None:
    known = Known(manifest(), parts(manifest()), inventory(big=300, small=100))
    found = {(one.group, one.name): one.bytes for one in blocks(known)}
    assert found["root", "big"] == 750  # of the root image's 1000 bytes
    assert found["root", "small"] == 250
    assert found["container", "libraries"] == 200


def test_a_boot_in_words() -> None:
    phases, units = read_boot(BOOT)
    assert [(one.name, one.start, one.seconds) for one in phases.spans] == [
        ("firmware", 0, 3.9),
        ("loader", 3.9, pytest.approx(0.812)),
        ("userspace", pytest.approx(4.712), 62.5),
    ]
    assert [one.name for one in units.spans] == ["large.service", "small.service"]
    assert [one.seconds for one in units.spans] == pytest.approx([62.1, 0.812])
    with pytest.raises(UserError, match="no phases of a boot"):
        read_boot("nothing\n")


def test_a_page_has_everything_and_needs_nothing() -> None:
    new = manifest("2", root="2", packages=(package(), package("<beta>")))
    line = Timeline(
        spans=(Span(name="base", start=0, seconds=61), Span(name="root", start=61, seconds=2))
    )
    phases, units = read_boot(BOOT)
    known = Known(
        new,
        parts(new),
        inventory(big=3),
        line,
        phases,
        units,
        None,
        compare(manifest(), new),
        ["x & y"],
    )
    text = report_page(known)
    parser = Strict()
    parser.feed(text)
    assert (parser.open, parser.outside) == ([], [])
    for part in ("1 min 1 s", "large.service", "&lt;beta&gt;", "x &amp; y", "Since 1"):
        assert part in text
    assert "prefers-color-scheme: dark" in text
    for outside in ("url(", "@import", "<script", "<beta>"):
        assert outside not in text


def test_a_page_of_what_little_is_known() -> None:
    text = report_page(Known(manifest(), parts(manifest())))
    assert "Where the bytes are" in text
    for part in ("<h2>Build", "<h2>Boot", "<h2>Bill", "Since"):
        assert part not in text


def test_the_results_of_tests(tmp_path: Path) -> None:
    assert read_tests([]) is None
    path = tmp_path / "unit.xml"
    path.write_text(JUNIT)
    found = read_tests([path])
    assert found is not None
    assert found.rooms == (Room("unit", 1, 1, 1, 1.75), Room("vm", 0, 1, 0, 9))
    assert found.failed == ("tests.unit.test_a::test_<two>", "tests.vm.test_b::test_four")
    text = report_page(Known(manifest(), parts(manifest()), tests=found))
    for part in ("<h2>Tests", "test_&lt;two&gt;", "tests.vm.test_b", "2 s"):
        assert part in text
    for bad in ("{}", "<testsuites/>", '<!DOCTYPE x [<!ENTITY e "e">]><testsuites/>'):
        path.write_text(bad)
        with pytest.raises(UserError, match="unit.xml: "):
            read_tests([path])
    with pytest.raises(UserError, match="No such file"):
        read_tests([tmp_path / "none.xml"])


def test_the_summary_of_a_bill(tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    assert read_summary(path) is None
    components = [
        {"type": "library", "licenses": [{"expression": "MIT"}]},
        {"type": "library"},
        {"type": "device-driver"},
    ]
    path.write_text(json.dumps({"components": components}))
    found = read_summary(path)
    assert found is not None
    assert found.kinds == (("packages and wheels", 2), ("kernel modules", 1))
    assert (found.licences, found.stated, found.unstated) == ((("MIT", 1),), 1, 1)
    path.write_text("{}")
    with pytest.raises(UserError, match="is no bill of materials"):
        read_summary(path)


def test_a_stopwatch_hands_events_on() -> None:
    heard = Events()
    watch = Stopwatch(heard)
    for event in (
        StageStarted("base"),
        StageEnded("base", "cached", 0.0, 1, "k"),
        Note("info", "x"),
    ):
        watch(event)
    assert not watch.worked
    watch(StageEnded("root", "built", 0.0, 1, "k"))
    assert watch.worked
    assert [(stage, how) for stage, _, _, how in watch.ended] == [
        ("base", "cached"),
        ("root", "built"),
    ]


def test_the_command_takes_the_version_before(call: Call, files: Files) -> None:
    folder = files.project.out / "cpu"
    for number, name in enumerate(("1", "2"), start=1):
        write(folder / name, manifest(name))
        os.utime(folder / name / "manifest.json", (number, number))
    ended = call("report")
    assert ended.code == 0, ended.err
    text = (folder / "2" / "report.html").read_text()
    assert "Since 1" in text
    assert "imgbuild sbom makes it" in text
    assert call("report", str(folder / "1"), "--to", str(folder / "own.html")).code == 0
    assert "no version before this one" in (folder / "own.html").read_text()

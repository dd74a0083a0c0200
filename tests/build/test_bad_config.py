"""Mistakes in configuration files: told with file, place and hint, before anything is done."""

from __future__ import annotations

from tests.build.command import Place

_BARE = "extends: bare\ndescription: a test\n"


def test_unknown_key(place: Place) -> None:
    place.write("config/profiles/bad.yaml", f"{_BARE}disk: {{roof: 1GiB}}\n")
    result = place.build("bad")
    result.refused("config/profiles/bad.yaml: disk.roof: unknown key", "hint:", "'root'")
    place.nothing_half_written()


def test_wrong_type(place: Place) -> None:
    place.write("config/profiles/bad.yaml", f"{_BARE}overlays: yes\ndisk: {{root: plenty}}\n")
    result = place.build("bad")
    result.refused(
        "config/profiles/bad.yaml: overlays:", "config/profiles/bad.yaml: disk.root:", "hint:"
    )
    place.nothing_half_written()


def test_missing_profile(place: Place) -> None:
    result = place.build("cpux")
    result.refused("cpux", "hint: did you mean 'cpu'?")
    place.nothing_half_written()


def test_missing_site(place: Place) -> None:
    result = place.build("bare", "--site", "debain")
    result.refused("debain", "hint: did you mean 'debian'?")
    place.nothing_half_written()


def test_cyclic_extends(place: Place) -> None:
    place.write("config/profiles/one.yaml", "extends: two\ndescription: a test\n")
    place.write("config/profiles/two.yaml", "extends: one\ndescription: a test\n")
    result = place.build("one")
    result.refused("extends: goes in a circle: one → two → one", "hint: remove one `extends`")
    place.nothing_half_written()

"""What a YAML file may not be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from builder.core.errors import ConfigError
from builder.resolve.yamlfile import read_list, read_mapping
from tests.unit.resolve_project import Files, files

__all__ = ["files"]

FILE = "config/profiles/x.yaml"


def problems(files: Files, text: str | bytes) -> list[str]:
    path = files.write(FILE, text)
    with pytest.raises(ConfigError) as caught:
        read_mapping(files.project, path)
    return list(caught.value.problems)


def test_plain_values(files: Files) -> None:
    path = files.write(FILE, "\ufeffa: [1, x, true, null]\nb: {c: 1.5}\n'on': !!str 5\n")
    expected = {"a": [1, "x", True, None], "b": {"c": 1.5}, "on": "5"}
    assert read_mapping(files.project, path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [\n", "line 3: is not YAML: "),
        ("a: 1\n b: 2\n", "line 2: is not YAML: mapping values are not allowed here (hint: check"),
        ("a:\n\tb: 2\n", "line 2: is not YAML: found character '\\t'"),
        ("a: 1\n---\nb: 1\n", "line 2: is not YAML: but found another document"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice, first in line 1 (hint: keep"),
        ("a:\n  b: 1\n  b: 1\n", "line 3: the key 'b' is there twice, first in line 2"),
        ("a: &x 1\n", "line 1: anchors and aliases (*x) are not allowed (hint: write the value"),
        ("a: *x\n", "line 1: anchors and aliases (*x) are not allowed"),
        ("<<: {a: 1}\n", "line 1: the key '<<' is read as merge, not as text (hint: quote it)"),
        ("on: 1\n", "line 1: the key 'on' is read as bool, not as text"),
        ("? [a]\n: 1\n", "line 1: a key must be text, not a map or list"),
        ("a: !!python/object/apply:os.system [x]\n", "line 1: the tag tag:yaml.org,2002:python"),
        ("a: !secret x\n", "line 1: the tag !secret is not allowed"),
        ("a: !!set {x}\n", "line 1: the tag tag:yaml.org,2002:set is not allowed"),
        ("a: 2024-13-45\n", "line 1: cannot read the value '2024-13-45': month must be"),
        ("a: " + "1" * 5000 + "\n", "line 1: cannot read the value '111"),
        ("a: " + "[" * 5000, "line 1: nested more than 20 deep"),
        ("a: 1\nb: \x07\n", "line 2: the character U+0007 is not allowed"),
        (b"a: 1\nb: \xff\n", "line 2: byte 0xff is not UTF-8 (hint: save the file as UTF-8)"),
        ("", "is empty, must be a map (hint: "),
        ("- a\n", "is a list, must be a map"),
        ("just text\n", "is a single value, must be a map"),
        ("#" * ((1 << 20) + 1), "is larger than 1 MiB (hint: "),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refused(files: Files, text: str | bytes, expected: str) -> None:
    (problem,) = problems(files, text)
    assert problem.startswith(f"{FILE}: {expected}")


def test_all_refused_things_of_a_well_formed_file(files: Files) -> None:
    assert len(problems(files, "a: 1\na: 2\n5: x\nb: !y z\n")) == 3


def test_an_alias_bomb_is_refused_at_once(files: Files) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    start = time.monotonic()
    assert "anchors and aliases" in problems(files, "\n".join(lines))[0]
    assert time.monotonic() - start < 1


def test_a_list_is_wanted(files: Files) -> None:
    with pytest.raises(ConfigError, match="x.yaml: is a map, must be a list"):
        read_list(files.project, files.write(FILE, "a: 1\n"))


def test_missing_file_and_folder(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config/profiles/bas\.yaml: not found \(hint: did you"):
        read_mapping(files.project, files.project.profiles / "bas.yaml")
    with pytest.raises(ConfigError, match="there are no files in nowhere"):
        read_mapping(files.project, tmp_path / "nowhere" / "a.yaml")
    (files.project.profiles / "dir.yaml").mkdir()
    with pytest.raises(ConfigError, match="dir.yaml: is not a file"):
        read_mapping(files.project, files.project.profiles / "dir.yaml")


def test_a_file_outside_the_project_is_named_in_full(files: Files) -> None:
    with pytest.raises(ConfigError, match="^/nonexistent/a.yaml: not found"):
        read_mapping(files.project, Path("/nonexistent/a.yaml"))

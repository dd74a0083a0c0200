"""Pages that are made of the code are up to date, whole, and what their readers can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from builder.cli.main import imgbuild
from reference.__main__ import PLACE, ROOT, files
from reference.keys import keys

MADE = files()
MAN = {path.name: text for path, text in MADE.items() if path.parent.name == "man"}
REQUEST = re.compile(r"^\.(TH|SH|SS|TP|PP|RS|RE|B|nf|fi|UR|UE)( |$)")


@pytest.mark.parametrize("path", MADE, ids=str)
def test_it_is_up_to_date(path: Path) -> None:
    there = (ROOT / path).read_text() if (ROOT / path).is_file() else "missing"
    assert there == MADE[path], f"{path}: make golden"


def test_nothing_is_left_of_commands_that_are_gone() -> None:
    there = {path.relative_to(ROOT) for path in (ROOT / PLACE / "man").iterdir()}
    assert there == {path for path in MADE if path.parent.name == "man"}


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for one in group.list_commands(context):
        command = group.get_command(context, one)
        assert command is not None
        yield f"{name}-{one}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}-{one}")


def test_every_command_and_option_has_its_place() -> None:
    for name, command in commands(imgbuild, "imgbuild"):
        page = MAN[f"{name}.1"].replace("\\", "")
        for one in command.params:
            words = one.opts if isinstance(one, click.Option) else [one.make_metavar()]
            assert all(word in page for word in words), f"{name}: {words}"


@pytest.mark.parametrize("name", MAN)
def test_man_reads_no_text_as_a_request(name: str) -> None:
    for line in MAN[name].splitlines():
        assert line[:1] != "'", line
        assert not line.startswith(".") or REQUEST.match(line), line


def test_no_name_is_cut_short() -> None:
    for name, text in MAN.items():
        assert "..." not in text.split(".SH NAME\n")[1].split("\n", 1)[0], name


def test_pages_do_not_know_the_day() -> None:
    assert all(re.search(r'^\.TH .* "1" " " ', text) for text in MAN.values())


def test_every_alert_is_told() -> None:
    groups = yaml.safe_load((ROOT / "monitoring/rules/alerts.yaml").read_text())["groups"]
    names = [rule["alert"] for group in groups for rule in group["rules"]]
    text = MADE[PLACE / "alerts.md"]
    assert len(names) == text.count("\n| `")
    assert all(f"| `{name}` |" in text for name in names)
    assert "{{" not in text


def test_keys_of_maps_lists_and_references() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
    schema = {
        "properties": {
            "map": {"$ref": "#/$defs/Inner"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/Inner"}, "description": "a|b"},
            "named": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Inner"}},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "choice": {"enum": ["x", "y"], "default": "x"},
            "range": {"type": ["integer", "null"], "minimum": 1, "maximum": 9, "default": 3},
        },
        "$defs": {"Inner": inner},
    }
    assert list(keys(schema)) == [
        ("map", "map", "", ""),
        ("map.b", "number", "required", ""),
        ("list", "list", "", "a\\|b"),
        ("list[].b", "number", "required", ""),
        ("named", "map", "", ""),
        ("named.NAME.b", "number", "required", ""),
        ("maybe", "text", "", ""),
        ("choice", "`x`, `y`", "`x`", ""),
        ("range", "number, 1 to 9", "`3`", ""),
    ]

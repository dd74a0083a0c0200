"""cloud-init files from a seed."""

from __future__ import annotations

import pytest
import yaml

from builder.core.errors import UserError
from builder.vm.seed import raw_files, seed_files

SEED = "#cloud-config\nhostname: gpu-07  # rack 3\nssh_authorized_keys:\n- ssh-ed25519 AAA a\n"
KEY = "ssh-ed25519 BBB imgbuild"


def test_without_a_key_the_text_is_left_alone() -> None:
    assert seed_files(SEED)["user-data"] == SEED


def test_a_key_is_added_to_those_there() -> None:
    user_data = seed_files(SEED, KEY + "\n")["user-data"]
    assert user_data.startswith("#cloud-config\n")
    assert yaml.safe_load(user_data) == {
        "hostname": "gpu-07",
        "ssh_authorized_keys": ["ssh-ed25519 AAA a", KEY],
    }


def test_a_key_is_added_once() -> None:
    once = seed_files(SEED, KEY)["user-data"]
    assert seed_files(once, KEY)["user-data"] == once


def test_an_empty_seed_takes_a_key() -> None:
    user_data = seed_files("#cloud-config\n", KEY)["user-data"]
    assert yaml.safe_load(user_data) == {"ssh_authorized_keys": [KEY]}


def test_the_instance_follows_the_content() -> None:
    same, again = seed_files(SEED)["meta-data"], seed_files(SEED)["meta-data"]
    other = seed_files(SEED, KEY)["meta-data"]
    assert same == again != other
    assert yaml.safe_load(same)["instance-id"].startswith("imgbuild-")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("hostname: a\n", "first line"),
        ("", "first line"),
        ("#cloud-config\n- a\n", "not a mapping"),
        ("#cloud-config\na: [\n", "not valid YAML"),
        ("#cloud-config\nssh_authorized_keys: abc\n", "not a list"),
    ],
)
def test_what_is_no_seed_is_refused(text: str, fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        seed_files(text, KEY)


def test_raw_bytes_are_written_as_they_are() -> None:
    files = raw_files(b"\x00\xff not a seed")
    assert files["user-data"] == b"\x00\xff not a seed"
    assert str(files["meta-data"]).startswith("instance-id: imgbuild-")

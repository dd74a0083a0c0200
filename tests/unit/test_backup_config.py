"""The `backup:` key of a seed: what is good, what is not, and that no message tells a secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from imgnode import guard
from imgnode.backupconfig import EXAMPLES, Backup, check, place, schema
from imgnode.nodeconfig import read_node
from imgnode.seed import USER, judge
from imgnode.seeddisk import Found

KEY = {"secret": "backup-key"}
SFTP = {
    "remote": "sftp://backup@10.0.0.5:2222//srv/backup",
    "key": KEY,
    "ssh_key": {"secret": "ssh"},
    "host_key": "ssh-ed25519 AAAA",
}
S3 = {
    "remote": "s3:https://s3.example/bucket/nodes",
    "key": KEY,
    "user": "AKIA",
    "password": {"secret": "s3"},
}


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"keep": {"count": 7}},
        SFTP,
        {**SFTP, "keep": {"count": 1, "days": 3650}, "node": "gpu-07", "restore": "latest"},
        S3,
        {"remote": "rest:http://[fd00::1]:8000/", "key": KEY},
        {"remote": "rest:https://backup.example", "key": KEY, "user": "a", "password": KEY},
    ],
)
def test_what_is_good(given: object) -> None:
    config, problems = check(given)
    assert problems == []
    assert config is not None
    assert config.settings() == (given or {})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "backup: [] must be a map"),
        ({"remot": "x"}, "backup.remot: unknown key (hint: did you mean 'remote'?"),
        ({"keep": {"count": 0}}, "backup.keep.count: 0 is less than 1"),
        ({"keep": {"weeks": 1}}, "backup.keep.weeks: unknown key"),
        ({"restore": "latest"}, "backup.restore: means nothing without a remote"),
        ({"user": "a"}, "backup.user: means nothing without a remote"),
        ({"remote": S3["remote"], "key": KEY}, "backup.user: is missing, and s3 needs it"),
        ({k: v for k, v in SFTP.items() if k != "key"}, "backup.key: is missing, and sftp needs"),
        ({k: v for k, v in SFTP.items() if k != "host_key"}, "backup.host_key: is missing"),
        ({**SFTP, "user": "a", "password": KEY}, "backup.user: means nothing for sftp"),
        ({**S3, "host_key": "ssh-ed25519 AAAA"}, "backup.host_key: means nothing for s3"),
        ({**SFTP, "node": "a/b"}, 'backup.node: "a/b" does not fit'),
        ({**SFTP, "restore": "always"}, 'backup.restore: "always" is not one of them'),
    ],
)
def test_what_is_wrong(given: object, told: str) -> None:
    config, problems = check(given)
    assert config is None
    assert str(problems[0]).startswith(told)


@pytest.mark.parametrize(
    "remote",
    [
        "rest:https://me:hunter2@backup.example/",
        "sftp://me:hunter2@backup.example/",
        "/hunter2",
        "b2:hunter2",
        "rest:https://backup.example/../hunter2",
        "rest:https://backup.example/a b-hunter2",
        "sftp://me@backup.example/-o hunter2",
        ["hunter2"],
    ],
)
def test_a_remote_that_is_refused_is_never_told(remote: object) -> None:
    _, problems = check({"remote": remote, "key": KEY})
    assert str(problems[0]).startswith("backup.remote: cannot be understood (hint: sftp://")
    assert "hunter2" not in "".join(map(str, problems))


@pytest.mark.parametrize("secret", ["hunter2", {"secret": "HUNTER2"}, {"value": "hunter2"}])
def test_a_key_is_a_reference_and_never_told(secret: object) -> None:
    _, problems = check({**SFTP, "key": secret})
    assert problems
    assert "hunter2" not in "".join(map(str, problems)).lower()


@pytest.mark.parametrize(
    ("text", "kind", "host", "port"),
    [
        (SFTP["remote"], "sftp", "10.0.0.5", 2222),
        (S3["remote"], "s3", "s3.example", 443),
        ("rest:http://[fd00::1]/", "rest", "fd00::1", 80),
    ],
)
def test_an_address_taken_apart(text: str, kind: str, host: str, port: int) -> None:
    found = place(text)
    assert found is not None
    assert (found.kind, found.host, found.port) == (kind, host, port)
    assert found.below("n") == f"{text.rstrip('/')}/n"
    assert re.fullmatch(schema()["properties"]["remote"]["pattern"].strip("^$"), text)


def test_the_examples_are_good() -> None:
    for name, value in EXAMPLES.items():
        _, problems = check({**SFTP, name: value})
        assert all("means nothing" in one.fact for one in problems), name


def seed(text: str) -> bytes:
    return f"#cloud-config\ninference: {{model: a/b}}\n{text}".encode()


def test_a_seed_with_a_bad_backup_keeps_the_rest() -> None:
    found = judge({USER: seed("backup: {remote: x}\n")}, gpus=None)
    assert found.backup is None
    assert found.inference is not None
    assert found.broken == {"backup"}
    assert "backup" not in found.user


def test_a_secret_in_a_wrong_place_of_the_file_is_not_told() -> None:
    found = judge({USER: seed("backup: {key: !x hunter2}\n")}, gpus=None)
    assert found.problems
    assert "hunter2" not in "".join(map(str, found.problems))


def boot(root: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found = Found("/dev/vda6", {USER: seed(text)})
    monkeypatch.setattr(guard, "find_seed", lambda _: found)
    guard.apply(root)
    node = read_node(root)
    assert node is not None
    values: dict[str, Any] = json.loads((root / "run/imgnode/node.json").read_text())
    assert values["backup"] == node.backup
    return values


def test_the_node_gets_it_and_a_bad_one_gives_way_to_the_last_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert boot(tmp_path, "", monkeypatch)["backup"] == {}
    good = boot(tmp_path, "backup: {keep: {count: 7}}\n", monkeypatch)
    assert good["backup"] == {"keep": {"count": 7}}
    bad = boot(tmp_path, "backup: {keep: {count: none}}\n", monkeypatch)
    assert bad["backup"] == {"keep": {"count": 7}}
    assert (bad["source"], bad["replaced"]) == ("seed", ["backup"])
    user = (tmp_path / "var/lib/cloud/seed/nocloud/user-data").read_text()
    assert "backup" not in user  # cloud-init would warn of it


def test_defaults_are_none() -> None:
    assert Backup().settings() == {}

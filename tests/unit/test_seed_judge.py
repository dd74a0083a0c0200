"""Seeds, good and bad: what each one costs, and that judging one takes no time."""

from __future__ import annotations

import time

import pytest

from imgnode.seed import LIMITS, META, NETWORK, USER, Seed, judge

HEAD = "#cloud-config\n"
GOOD = f"""{HEAD}hostname: gpu-07
ssh_authorized_keys: [ssh-ed25519 AAAA you]
inference:
  model: org/small
  max_model_len: 2048
"""
BOMB = HEAD + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'lol'] * 10)}]\n" for n in range(12)
)


def judged(user: str | bytes, **others: str) -> Seed:
    files = {USER: user.encode() if isinstance(user, str) else user}
    files |= {name.replace("_", "-"): text.encode() for name, text in others.items()}
    return judge(files, gpus=8)


def test_a_good_seed() -> None:
    seed = judged(GOOD, meta_data="instance-id: a\n", network_config="version: 2\n")
    assert not seed.problems
    assert seed.user == {"hostname": "gpu-07", "ssh_authorized_keys": ["ssh-ed25519 AAAA you"]}
    assert seed.inference is not None
    assert seed.inference.settings() == {"model": "org/small", "max_model_len": 2048}
    assert seed.parts[META] == {"instance-id": "a"}


def test_an_empty_seed_is_good_and_means_the_defaults() -> None:
    seed = judged(HEAD)
    assert not seed.problems
    assert seed.inference is not None
    assert seed.inference.settings() == {}


@pytest.mark.parametrize(
    ("user", "told"),
    [
        (b"", "the first line is not #cloud-config"),
        (b"hostname: a\n", "the first line is not #cloud-config"),
        (b"#cloud-config-archive\n", "the first line is not #cloud-config"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "is not UTF-8"),
        (bytes(range(256)) * 99, "is not UTF-8"),
        (HEAD.encode() + b"a: \x00\n", "line 2: the character U+0000"),
        (f"{HEAD}- a\n".encode(), "is not a map"),
        (f"{HEAD}a: [\n".encode(), "line 3: is not YAML"),
        (f"{HEAD}just words\n".encode(), "is not a map"),
        (BOMB.encode(), "line 2: anchors and aliases"),
        (f"{HEAD}{'a: b  # x' * 9}\n".encode() * 99_999, "is larger than 1024 KiB"),
        (f"{HEAD}x: {'[' * 999_999}".encode(), "nested more than 20 deep"),
        (f"{HEAD}x: {'{a: ' * 99_999}".encode(), "nested more than 20 deep"),
        (f"{HEAD}{'- ' * 99_999}".encode(), "nested more than 20 deep"),
        (f"{HEAD}runcmd:\n{'- a' + chr(10)}".encode() + b"- a\n" * 200_000, "more than 20000"),
        (f"{HEAD}---\n---\n".encode(), "line 3: is not YAML"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_seed_that_cannot_be_read_costs_the_whole(user: bytes, told: str) -> None:
    started = time.process_time()
    seed = judged(user)
    assert time.process_time() - started < 5
    (problem,) = seed.problems
    assert str(problem).startswith("user-data: ")
    assert told in str(problem)
    assert seed.broken == {USER}
    assert not seed.parts
    assert seed.inference is None


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("  max_model_len: -5\n", "inference.max_model_len: -5 is less than 1"),
        ("  max_model_length: 5\n", "unknown key (hint: did you mean 'max_model_len'?"),
        ("  tensor_parallel_size: 3\n", "3 does not divide the 8 GPUs"),
        ("  model: a\n  model: b\n", "inference.model: line 6: the key 'model' is there twice"),
        ("  model: !!python/name:os.system\n", "inference.model: line 5: the tag"),
        ("  8: a\n", "inference: line 5: the key '8' is read as int"),
        ("  - a\n", "must be a map"),
        (f"  max_model_len: 0x{'f' * 5000}\n", "it has 5002 digits"),
    ],
)
def test_a_fault_in_inference_costs_only_that(part: str, told: str) -> None:
    seed = judged(f"{HEAD}hostname: a\nssh_authorized_keys: [k]\ninference:\n{part}")
    (problem,) = seed.problems
    assert told in str(problem)
    assert seed.user == {"hostname": "a", "ssh_authorized_keys": ["k"]}
    assert seed.inference is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hostname: [a]", 'hostname: ["a"] must be a host name'),
        ("hostname: a b", "must be a host name"),
        ("hostname: 5", "5 must be a host name"),
        ("ssh_authorized_keys: ssh-ed25519 AAAA", "must be a list of public keys"),
        ("ssh_authorized_keys: [5]", "must be a list of public keys"),
        ("write_files: [a]", "must be a list of maps"),
        ("final_message: 2024-99-99", "line 2: cannot read the value '2024-99-99'"),
        ("final_message: !!bool x", "cannot read the value 'x'"),
        ("final_message: !!int ''", "cannot read the value ''"),
        ("final_message: !!timestamp x", "cannot read the value 'x'"),
        ("packages: [vim]", "packages: unknown key"),
        ("datasource: {NoCloud: {seedfrom: http://x/}}", "unknown key"),
    ],
)
def test_a_fault_in_one_key_costs_that_key(line: str, told: str) -> None:
    seed = judged(f"{HEAD}{line}\ntimezone: Etc/UTC\ninference: {{model: a/b}}\n")
    (problem,) = seed.problems
    assert told in str(problem)
    assert seed.user == {"timezone": "Etc/UTC"}
    assert seed.inference is not None
    assert seed.inference.model == "a/b"


@pytest.mark.parametrize("text", ["infernce: {model: a/b}", "<<: {inference: {model: a/b}}"])
def test_a_misspelt_inference_is_not_taken_for_none(text: str) -> None:
    seed = judged(f"{HEAD}{text}\nhostname: a\n")
    assert len(seed.problems) == 1
    assert seed.user == {"hostname": "a"}
    assert seed.inference is None


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (META, "seedfrom: http://evil/\n", "meta-data: seedfrom: unknown key"),
        (META, "local-hostname: [a]\n", "must be a host name"),
        (META, "a: &a [*a]\n", "anchors"),
        (META, "instance-id: a\ninstance-id: b\n", "is there twice"),
        (META, "x" * (LIMITS[META] + 1), "is larger than 64 KiB"),
        (NETWORK, "version: 9\n", "version: 9 must be 1 or 2"),
        (NETWORK, "- a\n", "is not a map"),
        (NETWORK, "network: {version: true}\n", "version: true must be 1 or 2"),
        (NETWORK, "a: &a [*a]\n", "anchors"),
    ],
)
def test_the_other_files_are_judged_too(name: str, text: str, told: str) -> None:
    seed = judge({USER: GOOD.encode(), name: text.encode()}, gpus=8)
    (problem,) = seed.problems
    assert told in str(problem)
    assert name in seed.broken
    assert name not in seed.parts
    assert seed.user["hostname"] == "gpu-07"
    assert seed.inference is not None


def test_vendor_data_would_be_overlooked() -> None:
    assert "is not read" in str(judged(GOOD, vendor_data="#cloud-config\n").problems[0])
    assert not judged(GOOD, vendor_data=" \n").problems


def test_what_cannot_be_read_below_a_secret_is_not_repeated() -> None:
    digits = "7" * 50
    seed = judged(f"{HEAD}inference: {{api_key: {digits}, env: {{HF_TOKEN: {digits}}}}}\n")
    assert seed.problems
    assert "777" not in " ".join(map(str, seed.problems))

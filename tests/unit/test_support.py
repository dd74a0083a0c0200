"""The support bundle: bounded, whole, and without a secret anywhere in it."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from imgnode.process import Finished
from imgnode.support import bundle
from imgnode.support.redact import Redactor, of_node
from tests.unit import serve_node

KEY = "sup3r-s3cret-api-key"
HF = "hf_AbCdEfGhIjKlMnOpQrSt"
AUTH = "dXNlcjpwYXNzd29yZA=="
VARIABLE = "vallue-of-a-variable"
PASSWORD = "correct-horse-battery"
HASH = "$6$salt$0123456789abcdefghijklmnop"
PEM = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXk
c2Vjb25k
-----END OPENSSH PRIVATE KEY-----"""
SECRETS = (KEY, HF, AUTH, VARIABLE, PASSWORD, HASH, "b3BlbnNzaC1rZXk", "c2Vjb25k")
# Ways in which a secret stands in a log or a command's output.
LEAKS = f"""\
request with key {KEY} refused
Authorization: Bearer {KEY}
authorization=Basic {AUTH}
HF_TOKEN={HF}
downloading with token {HF}
export MY_PASSWORD="{PASSWORD}"
{{"password": "{PASSWORD}", "user": "x"}}
docker run --api-key {KEY} --db-password={PASSWORD}
https://user:{PASSWORD}@mirror.example.net/models
root:{HASH}:19000:0:99999:7:::
{PEM}
passphrase: '{PASSWORD}'
"""
INSPECT = [
    {"Config": {"Env": [f"VLLM_API_KEY={KEY}", f"VLLM_OTHER={VARIABLE}", "PATH=/bin"], "User": "9"}}
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a node with secrets everywhere."""
    env = {"HF_TOKEN": HF, "VLLM_OTHER": VARIABLE, "A_KEY": {"secret": "api-key"}}
    serve_node.make(tmp_path, {"model": "a/b", "env": env, "api_key": {"secret": "api-key"}})
    serve_node.put(tmp_path / "etc/credstore/imgnode.api-key", f"{KEY}\n")
    serve_node.put(tmp_path / "run/credentials/vllm.service/imgnode.alert-auth", f"Basic {AUTH}")
    settings = {"settings": {"model": "a/b", "env": env}}
    serve_node.put(tmp_path / "var/lib/imgnode/model/proven.json", settings)
    serve_node.put(tmp_path / "run/imgnode/serve.json", {"wanted": settings, "error": LEAKS})
    serve_node.put(tmp_path / "run/imgnode/quarantine", LEAKS)
    serve_node.put(tmp_path / "var/lib/imgnode/recover/history.jsonl", json.dumps({"text": LEAKS}))
    return tmp_path


def leaking(argv: Sequence[str], *, timeout_s: float) -> Finished:
    """Play every program: say all secrets in its way."""
    assert timeout_s <= 60
    if argv[:2] == ["docker", "inspect"]:
        return Finished(0, json.dumps(INSPECT), "")
    if argv[0] == "imgnode" and argv[-1] == "--json":
        told = {"env": {"A": VARIABLE}, "text": LEAKS, "api_key": PASSWORD, "n": 5}
        return Finished(0, json.dumps(told), "")
    if argv[0] == "nvidia-smi":
        return Finished(1, "", LEAKS)
    return Finished(3, LEAKS + "x" * 100, LEAKS)


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for one in archive.getmembers():
            stream = archive.extractfile(one)
            assert stream is not None
            found[one.name.partition("/")[2]] = stream.read().decode()
        return found


def test_no_secret_is_in_it(root: Path) -> None:
    out = root / "node.tar.gz"
    bundle.write(out, root, leaking)
    found = unpacked(out)
    assert len(found) > 40
    for name, text in found.items():
        for secret in SECRETS:
            assert secret not in text, f"{name} tells {secret}"
    assert "VLLM_OTHER=***" in found["docker/vllm.json"]
    assert '"User": "9"' in found["docker/vllm.json"]
    assert '"n": 5' in found["imgnode/status.json"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_what_is_no_secret_stays(root: Path) -> None:
    text = (
        "vllm:generation_tokens_total 512\nmax_tokens=8\n"
        'imgnode_config_errors{key="a.b"} 1\n'
        "tokenizer=mistral eos_token_id=2\nssh_authorized_keys: 2\nkeyring: /usr/share/x\n"
        "Accepted publickey for admin\n"
    )  # fmt: skip
    assert of_node(root).text(text) == text


def test_what_cannot_be_had_is_named(root: Path) -> None:
    out = root / "node.tar.gz"
    missing = bundle.write(out, root, leaking)
    assert missing[0].startswith("gpu/nvidia-smi.txt: exit code 1: ")
    assert unpacked(out)["missing.txt"].startswith("gpu/nvidia-smi.txt: exit code 1: ")


def test_each_part_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_MOST", 50)
    serve_node.put(root / "run/imgnode/quarantine", "a" * 100 + "b" * 50)
    out = root / "node.tar.gz"
    bundle.write(out, root, leaking)
    assert unpacked(out)["files/run/imgnode/quarantine"] == "b" * 50
    assert all("--lines=20000" in argv for argv in bundle.COMMANDS.values() if "--boot=0" in argv)


def test_nothing_half_written_is_left(root: Path) -> None:
    def broken(*_: object, **__: object) -> Finished:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        bundle.write(root / "node.tar.gz", root, broken)
    assert not list(root.glob("*node.tar.gz*"))


def test_values_are_known_by_line_and_as_json_writes_them() -> None:
    redactor = Redactor(['first-line\nsecond "line"', "abc"])
    assert redactor.text("x first-line y") == "x *** y"
    assert redactor.text('{"x": "second \\"line\\""}') == '{\n "x": "***"\n}\n'
    assert redactor.text("abc") == "abc"  # too short: it would tear holes


def test_the_archive_is_an_archive(root: Path) -> None:
    out = root / "node.tar.gz"
    bundle.write(out, root, leaking)
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as archive:
        assert {one.name.partition("/")[0] for one in archive} == {"node"}

"""Fetching: what is resumed, what is checked, when a model counts as complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from imgnode.fault import Fault
from imgnode.models import fetch as fetching
from imgnode.models import mirror as mirrors
from imgnode.models.fetch import fetch
from imgnode.models.mirror import Mirror
from imgnode.models.provide import provide
from imgnode.models.store import MANIFEST, everything, find
from imgnode.payload import ModelBundle, Payload, read_payload
from imgnode.process import Finished
from tests.unit.serve_node import BUNDLE, MODEL, make, put

ADDRESS = "https://mirror.example/hf"
NAME = "org/m"
CONTENT = {"config.json": b"{}", "sub/model.safetensors": b"w" * 1000}
NONE = Payload()
DOWN = Finished(7, "\n000", "curl: (7) Failed to connect")
Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - as shutil's


class Curl:
    """Plays curl and the mirror behind it: `broken` has wrong answers by file, in order."""

    def __init__(self) -> None:
        self.content = dict(CONTENT)
        self.broken: dict[str, list[Any]] = {}
        self.argv: list[list[str]] = []
        self.inputs: list[str] = []
        self.fetched: list[tuple[str, int]] = []
        self.list_code = "200"
        self.sizes = True

    def run(self, argv: list[str], *, timeout_s: float, stdin: str) -> Finished:
        assert argv[0] == "curl"
        assert timeout_s > 0
        self.argv.append(argv)
        self.inputs.append(stdin)
        address = argv[-1]
        if "/api/models/" in address:
            return self.listing(address)
        path = address.split("/resolve/")[1].split("/", 1)[1]
        target = Path(argv[argv.index("--output") + 1])
        return self.file(path, target)

    def listing(self, address: str) -> Finished:
        if self.list_code != "200":
            return Finished(22, f"\n{self.list_code}", f"curl: (22) error: {self.list_code}")
        files = [self.entry(path, data) for path, data in self.content.items()]
        tree = "/tree/" in address
        return Finished(0, json.dumps(files if tree else self.siblings(files)) + "\n200", "")

    def siblings(self, files: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.sizes:
            return {"siblings": [{"rfilename": one["path"]} for one in files]}
        changed = [{**one, "rfilename": one["path"], "blobId": one["oid"]} for one in files]
        return {"sha": "c" * 40, "siblings": changed}

    def entry(self, path: str, data: bytes) -> dict[str, Any]:
        blob = b"blob %d\0" % len(data) + data
        found = {"type": "file", "path": path, "size": len(data)}
        found["oid"] = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        if path.endswith(".safetensors"):
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return found

    def file(self, path: str, target: Path) -> Finished:
        have = target.read_bytes() if target.exists() else b""
        self.fetched.append((path, len(have)))
        answer = self.broken.get(path) and self.broken[path].pop(0)
        if isinstance(answer, Finished):
            return answer
        if isinstance(answer, int):  # the line breaks after so many bytes
            target.write_bytes(self.content[path][:answer])
            return Finished(18, "\n200", "curl: (18) transfer closed")
        data = answer or self.content[path]
        target.write_bytes(have + data[len(have) :])
        return Finished(0, "\n200", "")


@pytest.fixture
def curl(monkeypatch: pytest.MonkeyPatch) -> Curl:
    made = Curl()
    monkeypatch.setattr(mirrors, "run", made.run)
    return made


def quiet(_: str) -> None:
    pass


def get(root: Path, **mirror: Any) -> Any:  # noqa: ANN401
    return fetch(NAME, None, Mirror(ADDRESS, **mirror), root, quiet)


def test_a_whole_model(tmp_path: Path, curl: Curl) -> None:
    told: list[str] = []
    weights = fetch(NAME, "v1/x", Mirror(ADDRESS), tmp_path, told.append)
    folder = tmp_path / "var/lib/imgnode/models/org--m/v1--x"
    assert weights.path == folder
    assert {path: (folder / path).read_bytes() for path in CONTENT} == CONTENT
    assert (folder / "sub/model.safetensors").stat().st_mode & 0o777 == 0o644
    assert folder.stat().st_mode & 0o777 == 0o755
    assert sorted(one.name for one in folder.iterdir()) == [MANIFEST, "config.json", "sub"]
    kept = json.loads((folder / MANIFEST).read_text())
    assert (kept["model"], kept["revision"], kept["commit"]) == (NAME, "v1/x", "c" * 40)
    assert told[1] == "fetching org/m: sub/model.safetensors (2 of 2)"
    assert find(NAME, "v1/x", NONE, tmp_path) == weights
    assert find(NAME, None, NONE, tmp_path) is None
    assert curl.argv[0][-1] == f"{ADDRESS}/api/models/{NAME}/revision/v1%2Fx?blobs=true"
    # All files are of one commit, even where the branch moves on meanwhile.
    assert curl.argv[1][-1] == f"{ADDRESS}/{NAME}/resolve/{'c' * 40}/config.json"


def test_the_other_form_of_the_list(tmp_path: Path, curl: Curl) -> None:
    curl.sizes = False
    get(tmp_path)
    assert curl.argv[1][-1] == f"{ADDRESS}/api/models/{NAME}/tree/main?recursive=true"
    assert curl.argv[2][-1] == f"{ADDRESS}/{NAME}/resolve/main/config.json"


def test_a_broken_line_goes_on_where_it_stopped(tmp_path: Path, curl: Curl) -> None:
    curl.broken = {"sub/model.safetensors": [400, DOWN]}
    with pytest.raises(
        Fault, match=r"cannot fetch org/m: sub/model\.safetensors.*connect"
    ) as caught:
        get(tmp_path)
    assert caught.value.kind == "fetch"
    assert find(NAME, None, NONE, tmp_path) is None
    get(tmp_path)
    assert curl.fetched == [
        ("config.json", 0),
        ("sub/model.safetensors", 0),
        ("sub/model.safetensors", 400),
        ("sub/model.safetensors", 400),
    ]
    assert curl.argv[-1][curl.argv[-1].index("--continue-at") + 1] == "-"
    assert find(NAME, None, NONE, tmp_path) is not None


def test_a_line_that_keeps_breaking_is_enough(tmp_path: Path, curl: Curl) -> None:
    curl.broken = {"sub/model.safetensors": [100, 200, 900]}
    get(tmp_path)
    assert [had for _, had in curl.fetched] == [0, 0, 100, 200, 900]


def test_a_wrong_file_is_fetched_once_more(tmp_path: Path, curl: Curl) -> None:
    curl.broken = {"sub/model.safetensors": [b"x" * 1000], "config.json": [b"[]"]}
    get(tmp_path)
    assert [one[1] for one in curl.fetched] == [0, 0, 0, 0]
    assert find(NAME, None, NONE, tmp_path) is not None


def test_a_file_that_stays_wrong_is_a_fault(tmp_path: Path, curl: Curl) -> None:
    curl.broken = {"sub/model.safetensors": [b"x" * 1000, b"y" * 1000]}
    with pytest.raises(Fault, match="is not what https://mirror.example/hf promised, twice"):
        get(tmp_path)
    assert find(NAME, None, NONE, tmp_path) is None
    part = tmp_path / "var/lib/imgnode/models/org--m/main.part"
    assert not list((part / "sub").iterdir())


def test_a_beginning_that_is_too_long_is_thrown_away(tmp_path: Path, curl: Curl) -> None:
    curl.broken = {"sub/model.safetensors": [400, DOWN]}
    with pytest.raises(Fault):
        get(tmp_path)
    part = tmp_path / "var/lib/imgnode/models/org--m/main.part/sub/model.safetensors.part"
    part.write_bytes(b"x" * 5000)
    get(tmp_path)
    assert curl.fetched[-1] == ("sub/model.safetensors", 0)


def test_a_server_that_cannot_resume(tmp_path: Path, curl: Curl) -> None:
    curl.broken = {"sub/model.safetensors": [400, DOWN, Finished(33, "\n200", "no ranges")]}
    with pytest.raises(Fault):
        get(tmp_path)
    get(tmp_path)
    assert curl.fetched[-2:] == [("sub/model.safetensors", 400), ("sub/model.safetensors", 0)]


def test_a_model_that_has_changed_meanwhile(tmp_path: Path, curl: Curl) -> None:
    """What was kept of the old one never becomes part of the new one."""
    curl.broken = {"sub/model.safetensors": [400, DOWN]}
    with pytest.raises(Fault):
        get(tmp_path)
    curl.content = {"config.json": b"[]", "sub/model.safetensors": b"v" * 1000, "new.json": b"1"}
    weights = get(tmp_path)
    assert {path: (weights.path / path).read_bytes() for path in curl.content} == curl.content
    assert curl.fetched[3:] == [("config.json", 0), ("sub/model.safetensors", 0), ("new.json", 0)]


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("404", "config", "the model org/m (main) does not exist on https://mirror.example/hf"),
        ("401", "config", "HTTP 401 (hint: env: {HF_TOKEN: {secret: NAME}}"),
        ("403", "config", "HTTP 403"),
        ("500", "fetch", "cannot fetch org/m (main)"),
        ("000", "fetch", "curl: (22)"),
    ],
)
def test_what_a_mirror_refuses(tmp_path: Path, curl: Curl, code: str, kind: str, told: str) -> None:
    curl.list_code = code
    with pytest.raises(Fault) as caught:
        get(tmp_path)
    assert caught.value.kind == kind
    assert told in str(caught.value)


def test_a_mirror_without_sizes(
    tmp_path: Path, curl: Curl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curl, "listing", lambda _: Finished(0, '{"siblings": []}\n200', ""))
    with pytest.raises(Fault, match="without sizes and digests"):
        get(tmp_path)


def test_the_token_stands_in_no_list_of_processes(tmp_path: Path, curl: Curl) -> None:
    get(tmp_path, token="SECRET-token")
    assert "SECRET" not in json.dumps(curl.argv)
    assert set(curl.inputs) == {'header = "Authorization: Bearer SECRET-token"\n'}
    assert "SECRET" not in repr(Mirror(ADDRESS, "SECRET-token"))
    assert all(argv[1:3] == ["--config", "-"] and "=http,https" in argv for argv in curl.argv)
    # curl 7.88 says "option --output=…: is unknown".
    assert not [
        word for argv in curl.argv for word in argv if word.startswith("--") and "=" in word
    ]


def test_no_room(tmp_path: Path, curl: Curl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1 << 20))
    with pytest.raises(Fault, match=r"/var has 0\.0 GiB free, the model needs 1\.0 GiB") as caught:
        get(tmp_path)
    assert caught.value.kind == "disk"
    assert curl.fetched == []


def test_content_is_flushed_before_it_counts(
    tmp_path: Path, curl: Curl, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    genuine = fetching._flush

    def flush(path: Path) -> None:
        flushed.append(path.name)
        genuine(path)

    monkeypatch.setattr(fetching, "_flush", flush)
    get(tmp_path)
    assert flushed == ["config.json.part", "model.safetensors.part"]
    assert curl.fetched


def test_where_a_model_is_looked_for(tmp_path: Path, curl: Curl) -> None:
    """A bundle first, then a fetched one, then one put there by hand; the mirror comes last."""
    root = make(tmp_path)
    payload = read_payload(root)
    models = root / "var/lib/imgnode/models"
    mirror = Mirror(ADDRESS)
    for revision in (None, "main"):
        found = provide(MODEL, revision, payload, mirror, root, quiet)
        assert (found.source, found.path.name) == ("bundle", BUNDLE)
    put(models / "org--m/config.json", "{}")
    assert provide(NAME, "v9", payload, mirror, root, quiet).source == "by hand"
    put(models / "org--m/v9/config.json", "{}")
    assert provide(NAME, "v9", payload, mirror, root, quiet).path.name == "v9"
    put(models / "org--m/main" / MANIFEST, {"model": NAME, "revision": "main"})
    assert provide(NAME, None, payload, mirror, root, quiet).source == "fetched"
    assert curl.argv == []
    assert provide("org/other", None, payload, mirror, root, quiet).source == "fetched"
    sources = [(one.model, one.revision, one.source) for one in everything(payload, root)]
    assert sources == [
        (MODEL, "main", "bundle"),
        (NAME, None, "by hand"),
        (NAME, "main", "fetched"),
        (NAME, "v9", "by hand"),
        ("org/other", "main", "fetched"),
    ]


def test_another_models_manifest_does_not_fit(tmp_path: Path) -> None:
    put(tmp_path / "var/lib/imgnode/models/org--m/main/config.json", "{}")
    put(
        tmp_path / f"var/lib/imgnode/models/org--m/main/{MANIFEST}",
        {"model": "x", "revision": "main"},
    )
    assert find(NAME, None, NONE, tmp_path) is None


def test_a_bundle_that_is_not_mounted(tmp_path: Path, curl: Curl) -> None:
    payload = Payload(models=(ModelBundle(NAME, "main", BUNDLE),))
    with pytest.raises(Fault, match="belongs to this version, but is not mounted") as caught:
        provide(NAME, None, payload, None, tmp_path, quiet)
    assert caught.value.kind == "image"
    assert provide(NAME, None, payload, Mirror(ADDRESS), tmp_path, quiet).source == "fetched"
    with pytest.raises(Fault, match=r"bundles: org/m; or put it into /var/lib/imgnode/models/a--b"):
        provide("a/b", None, payload, None, tmp_path, quiet)
    assert curl.fetched


def test_a_disk_that_fails(tmp_path: Path, curl: Curl, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_flush", full)
    with pytest.raises(Fault, match=r"cannot write org/m to /var: No space left") as caught:
        provide(NAME, None, NONE, Mirror(ADDRESS), tmp_path, quiet)
    assert caught.value.kind == "disk"
    assert curl.fetched

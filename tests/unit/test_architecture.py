"""The rules of the house: who imports whom, where processes start, how long code may get."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMON = {"core", "model"}
JOINING = {"cli", "pipeline"}  # these alone bring rooms together
ROOMS = sorted(
    path.name
    for path in (ROOT / "builder").iterdir()
    if path.is_dir() and path.name not in {*COMMON, *JOINING, "__pycache__"}
)
DOORS = {
    "builder/core/process.py",
    "builder/vm/process.py",
    "builder/cli/boot.py",  # hands its terminal over to pytest
    "imgnode/process.py",
}
STARTS_PROCESS = {
    "subprocess": {
        "Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput",
    },
    "os": {"system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "pty": {"spawn", "fork"},
}  # fmt: skip
MAX_FILE, MAX_FUNCTION = 400, 60


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Yield the full dotted name of everything that a file imports."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def neighbours(path: Path) -> set[str]:
    """Return the parts of builder/ that a file imports (`builder.lock.store` → `lock`)."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("builder.")}


def test_the_rooms_are_those_we_know() -> None:
    known = {"disk", "doctor", "initrd", "lock", "resolve", "rootfs", "tools", "vm"}
    assert known <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_the_core_and_the_hand_over_types(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports builder.{name}"
        for path in files(f"builder/{room}")
        for name in neighbours(path) - COMMON - {room}
    }
    assert not wrong


def test_the_core_and_the_types_know_no_room() -> None:
    for path in files("builder/model"):
        assert neighbours(path) <= {"model"}, path
    for path in files("builder/core"):
        allowed = COMMON if path.name in {"bootstrap.py", "wheels.py"} else {"core"}
        assert neighbours(path) <= allowed, path


def test_only_the_cli_and_the_pipeline_join_rooms() -> None:
    at_the_top = {path.stem for path in (ROOT / "builder").glob("*.py")}
    assert at_the_top == {"__init__", "pipeline"}
    assert "cli" not in neighbours(ROOT / "builder/pipeline.py")


def test_nothing_is_imported_behind_the_back_of_these_tests() -> None:
    """Only the command line loads a module by name: its own commands, when they are called."""
    for path in files("builder", "imgnode"):
        called = {
            node.func.id
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if path != ROOT / "builder/cli/main.py":
            assert "__import__" not in called, path
        assert not any(name.startswith("importlib") for name in imported(path)), path


def test_the_nodes_package_stands_alone() -> None:
    """PyYAML is let in by one reader: seeds are YAML, and cloud-init brings it along.

    nvidia-ml-py is let in by the one module that asks the GPU driver, and runs in a child.
    """
    for path in files("imgnode"):
        allowed = {*sys.stdlib_module_names, "imgnode"}
        allowed |= {"yaml"} if path.name == "strictyaml.py" else set()
        allowed |= {"pynvml"} if path == ROOT / "imgnode/gpu/nvml.py" else set()
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path


@pytest.mark.parametrize("path", files("builder", "imgnode", "monitoring", "tests"), ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{path}:{node.lineno}: {node.name}: {length} lines"


def test_processes_start_at_the_doors_only() -> None:
    for path in files("builder", "imgnode"):
        if str(path.relative_to(ROOT)) in DOORS:
            continue
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            module = node.func.value
            names = STARTS_PROCESS.get(module.id, set()) if isinstance(module, ast.Name) else set()
            assert node.func.attr not in names, f"{path}:{node.lineno}: {ast.unparse(node.func)}"
        taken = {f"{module}.{name}" for module, names in STARTS_PROCESS.items() for name in names}
        assert not taken & set(imported(path)), path


@pytest.mark.parametrize("door", sorted(DOORS))
def test_the_list_of_doors_is_up_to_date(door: str) -> None:
    assert "subprocess" in set(imported(ROOT / door))


def test_no_broad_except_that_swallows() -> None:
    """`except BaseException` may tidy up, if its last word is a bare `raise`.

    The guard goes on after a fault of ours in judging a seed: it must not cost the boot.
    """
    broad = {"Exception", "BaseException"}
    for path in files("builder", "imgnode"):
        if path in (ROOT / "builder/cli/main.py", ROOT / "imgnode/guard.py"):
            continue
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = (
                {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                if node.type
                else broad
            )
            last = node.body[-1]
            passes_on = isinstance(last, ast.Raise) and last.exc is None
            assert passes_on or not caught & broad, f"{path}:{node.lineno}: broad except"

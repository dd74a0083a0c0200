"""The seed that is flashed: judged first, as `imgbuild seed check` does."""

from __future__ import annotations

from pathlib import Path

from builder.core.errors import ConfigError, UserError
from builder.core.paths import Project
from builder.resolve import load_shapes, resolve
from builder.seed.check import Board, check_seed
from builder.vm.seed import seed_files
from imgnode.seed import LIMITS, NETWORK, USER, judge

Files = dict[str, str | bytes]


def read_seed(
    project: Project, file: Path, network: Path | None, profile: str, site: str
) -> tuple[Files, tuple[str, ...]]:
    """Return the files of a seed by name, and what is worth knowing about it.

    Raises ConfigError with everything that is wrong with it for a node of this profile; one
    that this checkout does not have is left out of the judgement.
    """
    data = _read(file, USER)
    board = None
    if (project.profiles / f"{profile}.yaml").is_file():
        board = Board(profile, resolve(project, profile, site).profile.gpu)
    report = check_seed(data, board, load_shapes(project))
    problems = [f"{file}: {problem}" for problem in report.problems]
    more: Files = {}
    if network:
        more[NETWORK] = text = _read(network, NETWORK)
        problems += [f"{network}: {one}" for one in judge({NETWORK: text}, gpus=None).problems]
    if problems:
        raise ConfigError(problems)
    return {**seed_files(data.decode()), **more}, report.notes


def _read(file: Path, kind: str) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(LIMITS[kind] + 1)
    except OSError as error:
        hint = "imgbuild seed new writes an example"
        raise UserError(f"{file}: cannot be read: {error.strerror}", hint=hint) from None

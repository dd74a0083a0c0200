"""`imgnode serve`: the inference service, as vllm.service runs it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from imgnode.commands.group import Commands, group
from imgnode.fault import Fault
from imgnode.models.store import fetched_folder, find
from imgnode.serve import cache, confine, copied, gpus, runner
from imgnode.serve.command import Launch, argv, gpus_used
from imgnode.serve.facts import read_machine
from imgnode.serve.plan import Plan, find_gpus, read_plan

_ROOT = Path("/")
_START = (sys.executable, "-P", "-m", "imgnode.serve")
_SKIP, _BROKEN = 1, 255  # ExecCondition= (systemd.service(5)): 1 skips the unit, 255 fails it


def add(commands: Commands) -> None:
    """Add the subcommands."""
    serve = group(commands, "serve", "the inference service, as vllm.service runs it")
    run = serve.add_parser("run", help="start the server and watch it until it ends")
    run.set_defaults(run=_run)
    wanted = serve.add_parser("wanted", help="exit 0 if there is something to serve, else 1")
    wanted.set_defaults(run=_wanted)
    show = serve.add_parser("show", help="the docker command line that a start would run")
    show.set_defaults(run=_show)


def _run(_: argparse.Namespace) -> None:
    """Become the start: in this process all other commands are loaded, which it would carry on."""
    os.execv(_START[0], _START)  # noqa: S606 - the same process goes on


def _wanted(_: argparse.Namespace) -> None:
    try:
        there = runner.wanted()
    except (OSError, ValueError) as error:
        print(f"imgnode: this image is damaged: {error}", file=sys.stderr)
        sys.exit(_BROKEN)
    if not there:
        print("nothing to serve: no container in this image, or no model in its config")
        sys.exit(_SKIP)


def _show(_: argparse.Namespace) -> None:
    plan = read_plan(_ROOT)
    if plan is None:
        raise SystemExit("imgnode: nothing to serve: no container in this image, or no model")
    print(command_line(plan, _ROOT))
    try:
        if handed := find_gpus(plan, _ROOT):
            gpus.check(handed, plan.facts, gpus_used(plan.facts, plan.choice.in_force))
    except Fault as fault:
        print(f"imgnode: a start would fail: {fault}", file=sys.stderr)


def command_line(plan: Plan, root: Path) -> str:
    """Return the command line as text; of secrets it has the names alone."""
    settings = plan.choice.in_force
    model, revision = settings["model"], settings.get("revision")
    weights = find(model, revision, plan.payload, root)
    path = weights.path if weights else fetched_folder(model, revision, root)
    folder = cache.folder(plan.image.digest, root)
    machine = read_machine(root)
    copy = copied.copy_id(plan.image, root)
    image = copy or plan.image.reference
    handed = find_gpus(plan, root)
    confined = confine.profile(root)
    words = argv(Launch(plan.facts, machine, image, settings, path, folder, handed, confined))
    note = f"# Docker's own copy of {plan.image.reference}\n" if copy else ""
    return note + " \\\n  ".join(shlex.join([word]) for word in words)

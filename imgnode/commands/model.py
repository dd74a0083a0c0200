"""`imgnode model`: what this node serves."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgnode.commands.group import Commands, group
from imgnode.fault import Fault
from imgnode.models import store
from imgnode.models.mirror import Mirror
from imgnode.models.provide import provide
from imgnode.nodeconfig import read_node
from imgnode.payload import read_payload
from imgnode.serve import change, report, secrets
from imgnode.serve.change import Change, NotServed, Refused
from imgnode.serve.facts import read_facts
from imgnode.serve.names import HF_TOKEN
from imgnode.serve.plan import PROVEN, read_wish

_ROOT = Path("/")
_WRONG_CALL = 2
_GIB = 1 << 30


def add(commands: Commands) -> None:
    """Add the subcommands."""
    model = group(commands, "model", "what this node serves")
    show = model.add_parser("show", help="the config in force and where it comes from")
    show.add_argument("--json", action="store_true", help="for machines")
    show.set_defaults(run=_guarded(_show))
    one = model.add_parser("set", help="lay values over the seed's config, and serve that")
    one.add_argument("values", nargs="*", metavar="KEY=VALUE", help="such as max_model_len=8192")
    one.add_argument("--model", metavar="NAME", help="the same as model=NAME")
    _add_wait(one)
    one.set_defaults(run=_guarded(_set))
    one = model.add_parser("unset", help="take values back: the seed's own apply again")
    one.add_argument("keys", nargs="*", metavar="KEY", help="a key that was set")
    one.add_argument("--all", action="store_true", help="everything that was set")
    _add_wait(one)
    one.set_defaults(run=_guarded(_unset))
    one = model.add_parser("retry", help="try the wanted config again, where the node fell back")
    one.set_defaults(run=_guarded(lambda _: change.retry(_ROOT)))
    one = model.add_parser("list", help="the models that are on this node")
    one.set_defaults(run=_guarded(_list))
    one = model.add_parser("fetch", help="fetch a model from the mirror")
    one.add_argument("name", metavar="NAME", help="ORGANISATION/NAME")
    one.add_argument("--revision", help="branch, tag or commit; default: main")
    one.set_defaults(run=_guarded(_fetch))


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="wait for the first token, and go back when it does not come",
    )


def _guarded(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Tell a person what is wrong; 2 for what was asked wrongly, 1 for what did not work."""

    def guarded(arguments: argparse.Namespace) -> None:
        try:
            run(arguments)
        except Refused as error:
            print(error, file=sys.stderr)
            sys.exit(_WRONG_CALL)
        except (NotServed, Fault, ValueError) as error:
            raise SystemExit(f"imgnode: {error}") from error
        except PermissionError as error:
            raise SystemExit(f"imgnode: {error.filename}: not allowed (hint: sudo)") from error
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename}: {error.strerror}") from error

    return guarded


def _set(arguments: argparse.Namespace) -> None:
    words = [*([f"model={arguments.model}"] if arguments.model else []), *arguments.values]
    if not words:
        print("imgnode: nothing to set (hint: KEY=VALUE, or --model NAME)", file=sys.stderr)
        sys.exit(_WRONG_CALL)
    print(change.apply(Change(change.parse(words)), _ROOT, wait=arguments.wait))


def _unset(arguments: argparse.Namespace) -> None:
    if not arguments.keys and not arguments.all:
        print("imgnode: nothing to unset (hint: KEY, or --all)", file=sys.stderr)
        sys.exit(_WRONG_CALL)
    asked = Change({}, tuple(arguments.keys), arguments.all)
    print(change.apply(asked, _ROOT, wait=arguments.wait))


def _show(arguments: argparse.Namespace) -> None:
    if read_node(_ROOT) is None:
        raise SystemExit("imgnode: no config yet: systemctl status imgnode-seed.service")
    facts = in_force(_ROOT)
    if arguments.json:
        print(json.dumps(facts, indent=1))
        return
    for line in table(facts):
        print(line)


def in_force(root: Path) -> dict[str, Any]:
    """Return what is served, where each value comes from, and how the service stands."""
    wish = read_wish(_gpus(root), root)
    told = report.read(root)
    fallback = bool(told and told["fallback"])
    settings = told["in_force"]["settings"] if told and fallback else wish.settings
    return {
        "source": wish.source,
        "inference": settings,
        "origins": {key: PROVEN if fallback else wish.origin(key) for key in settings},
        "wanted": wish.settings,
        "override": wish.values,
        "override_ignored": wish.ignored,
        "fallback": fallback,
        "service": told,
    }


def table(facts: dict[str, Any]) -> list[str]:
    """Return the lines that people read."""
    settings = facts["inference"]
    pairs = {key: f"{key}: {json.dumps(value)}" for key, value in settings.items()}
    width = max((len(text) for text in pairs.values()), default=0)
    lines = [f"# from: {PROVEN if facts['fallback'] else facts['source']}"]
    lines += [f"{text:<{width}}{_origin(facts, key)}".rstrip() for key, text in pairs.items()]
    if not settings.get("model"):
        lines.append("# no model: there is nothing to serve")
    if facts["override_ignored"]:
        lines.append(f"# what was set by hand is ignored: {facts['override_ignored']}")
    if facts["fallback"]:
        lines.append(f"# FALLBACK: wanted is {json.dumps(facts['wanted'])}")
        lines.append("# try it again: imgnode model retry")
    told = facts["service"]
    if told and told["state"] != report.SKIPPED:
        lines.append(f"# {told['state']}: {told['text']}")
        if told["error"]:
            lines.append(f"# last error ({told['error']['kind']}): {told['error']['text']}")
    return lines


def _origin(facts: dict[str, Any], key: str) -> str:
    """Return where one value comes from, where that is not where the others do."""
    origin = facts["origins"][key]
    return "" if facts["fallback"] or origin == facts["source"] else f"  # {origin}"


def _gpus(root: Path) -> int | None:
    try:
        return read_facts(root).gpus
    except (OSError, ValueError):
        return None


def _list(_: argparse.Namespace) -> None:
    found = list(store.everything(read_payload(_ROOT), _ROOT))
    width = max((len(one.model) for one in found), default=0)
    for one in found:
        size = f"{one.bytes / _GIB:8.1f} GiB"
        print(f"{one.model:<{width}}  {one.revision or '-':<12}  {size}  {one.source}")
    if not found:
        print("no models on this node")


def _fetch(arguments: argparse.Namespace) -> None:
    facts = read_facts(_ROOT)
    asked = {"model": arguments.name}
    asked |= {"revision": arguments.revision} if arguments.revision else {}
    change.judge(asked, facts.gpus)
    env = read_wish(facts.gpus, _ROOT).settings.get("env") or {}
    token = {"env": {HF_TOKEN: env[HF_TOKEN]}} if HF_TOKEN in env else {}
    secret = secrets.resolve(token, secrets.credentials(_ROOT))
    mirror = Mirror(facts.models, secret.hf_token) if facts.models else None
    payload = read_payload(_ROOT)
    weights = provide(arguments.name, arguments.revision, payload, mirror, _ROOT)
    print(f"{weights.model} is in {weights.path} ({weights.source})")

"""The real `imgnode` in a folder that plays a node; slots, boots and servers are played.

    standin.py ROOT imgnode WORDS…    the command, with its own code for status, locks, refusals;
                                      backups are real, by the restic of this machine
    standin.py ROOT reboot | boot-id | logger WORDS… | systemctl WORDS…

`ROOT/sim.json` has what a test wants: `offer` (what the channel has), `bad` (versions that do not
come up), `sick` (versions that come up and do not serve), `fault` (hung, full), `models` that load,
of those that are `known`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from imgnode import cli, process
from imgnode.bootentries import ENTRIES, entries
from imgnode.release.versions import newest_first
from imgnode.serve import report as serving
from imgnode.serve.choice import digest
from imgnode.serve.facts import read_facts
from imgnode.serve.plan import read_wish
from imgnode.update import run
from imgnode.update.channel import Channel, judge
from imgnode.update.refused import FETCH, SPACE, Refused
from imgnode.update.stage import STAGE, Staged, clear, staged
from imgnode.update.state import Applied, load, save

IMAGE = "imgbuild-sim"
HUNG_S = 3600
REBOOT_S = 1.0
HERE = Path("/")
CHECKOUT = Path(__file__).parents[2]
GENUINE = process._finish


def facts_of(root: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((root / "sim.json").read_text())
    return value


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def reroot(root: Path) -> None:
    """Let every function of imgnode that works below `/` by default work below `root`."""
    for name, module in list(sys.modules.items()):
        if not name.startswith("imgnode"):
            continue
        if getattr(module, "_ROOT", None) == HERE:
            module._ROOT = root  # type: ignore[attr-defined]
        for one in vars(module).values():
            for function in (one, *(vars(one).values() if isinstance(one, type) else ())):
                _default(function, root)


def _default(function: Any, root: Path) -> None:  # noqa: ANN401 - whatever a module holds
    defaults = getattr(function, "__defaults__", None)
    if isinstance(defaults, tuple) and HERE in defaults:
        function.__defaults__ = tuple(root if one == HERE else one for one in defaults)


def played(root: Path) -> Any:  # noqa: ANN401 - a stand-in for process._finish
    """Return what runs programs of a node: nothing but what is named here has an effect."""

    def finish(argv: Sequence[str], *rest: Any, **more: Any) -> process.Finished:  # noqa: ANN401
        name = Path(argv[0]).name
        if name == "restic":
            return GENUINE(argv, *rest, **more)
        if name == "lsblk":
            return process.Finished(0, "/dev/sim1 part\n/dev/sim disk\n", "")
        if name == "sfdisk":
            return process.Finished(0, json.dumps(_table(root)), "")
        if name == "systemctl" and "restart" in argv and "vllm.service" in argv:
            serve(root)
        return process.Finished(0, "", "")

    return finish


def _table(root: Path) -> dict[str, Any]:
    kinds = ("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5")
    rows = [
        {"node": f"/dev/sim{slot}{part}", "name": label, "type": kind, "size": 1 << 11}
        for slot, label in enumerate(facts_of(root)["labels"])
        for part, kind in enumerate(kinds)
    ]
    return {"partitiontable": {"sectorsize": 512, "partitions": rows}}


def serve(root: Path) -> None:
    """Do what vllm.service does: serve what is wanted where it loads, else say that it failed."""
    sim, facts = facts_of(root), read_facts(root)
    wanted = read_wish(facts.gpus, root).settings
    version = json.loads((root / "usr/lib/imgnode/image.json").read_text())["version"]
    good = version not in sim["sick"] and wanted.get("model") in sim["models"]
    error = None if good else {"kind": "config", "text": "the model does not load"}
    config = {"digest": digest(wanted), "settings": wanted}
    told = {
        "state": serving.SERVING if good else serving.FAILED,
        "phase": None,
        "text": f"serving {wanted.get('model')}" if good else "the model does not load",
        "began": time.monotonic(),
        "since": int(time.time()),
        "wanted": config,
        "in_force": config,
        "fallback": False,
        "starts_failed": 0 if good else 1,
        "error": error,
        "ready_seconds": 1.0 if good else None,
        "image_copied": False,
    }
    put(root / serving.FILE, told)
    level = "ok" if good else "failed"
    finding = {"level": level, "fact": "the server ended"}
    check = {"level": level, "class": "idle" if good else "dead", "findings": [finding]}
    health = {"when": time.time(), "level": level, "silenced": False, "checks": {"serve": check}}
    put(root / "run/imgnode/health.json", health)


def boot(root: Path) -> None:
    """Do what firmware, boot loader, gate and bless do: the newest version that comes up runs."""
    sim = facts_of(root)
    for left in ("run/imgnode/maintenance", "run/imgnode/update.json"):
        (root / left).unlink(missing_ok=True)
    there = {one.stem.partition("_")[2]: one for one in entries(root) if one.bootable}
    for version in newest_first(there):
        path = there[version].path
        if version in sim["bad"]:
            path.rename(path.with_name(f"{IMAGE}_{version}+0-3.efi"))
            continue
        path.rename(path.with_name(f"{IMAGE}_{version}.efi"))
        image = json.loads((root / "usr/lib/imgnode/image.json").read_text())
        put(root / "usr/lib/imgnode/image.json", {**image, "version": version})
        break
    put(root / "boot-id", str(uuid.uuid4()))
    serve(root)


def reboot(root: Path) -> None:
    put(root / "down", str(time.time() + REBOOT_S))
    boot(root)


def fetch_channel(facts: Any, name: str, wishes: Any, _: Path, root: Path) -> Channel:  # noqa: ANN401
    """Play imgnode.update.offer.fetch_channel; the judging is real."""
    offer = facts_of(root)["offer"]
    if offer is None:
        raise Refused(FETCH, "the release server does not answer")
    now = datetime.now(UTC)
    channel = Channel(IMAGE, name, 7, offer, "ab" * 32, None, now + timedelta(days=1))
    judge(channel, facts, name, load(root), now, wishes)
    return channel


def fetch_offer(_facts: Any, channel: Any, _work: Path, _root: Path) -> Any:  # noqa: ANN401
    """Play imgnode.update.offer.fetch_offer: what the channel names is offered."""
    return channel


def stage(channel: Any, _: Any, root: Path) -> Staged:  # noqa: ANN401
    """Play imgnode.update.stage.stage."""
    fault = facts_of(root)["fault"]
    if fault == "hung":
        time.sleep(HUNG_S)
    if fault == "full":
        raise Refused(SPACE, "500 MiB are needed on /var, 3 MiB are free", "du -xsh /var/*")
    time.sleep(facts_of(root).get("stage_s", 0))
    folder = root / STAGE / channel.version
    done = {"folder": None, "version": channel.version, "root_hash": "ab" * 32, "sha256": {}}
    put(folder / "ready.json", done)
    return Staged(folder, channel.version, "ab" * 32, {}, 1, True)


def install(facts: Any, say: Any, root: Path) -> str:  # noqa: ANN401
    """Play the writing of the other slot; what is remembered is real."""
    done = staged(root)
    if done is None:
        raise Refused(FETCH, "nothing is staged")
    sim = facts_of(root)
    put(root / "sim.json", {**sim, "labels": [facts.stem, f"{IMAGE}_{done.version}"]})
    for one in entries(root):
        if one.stem != facts.stem:
            one.path.unlink()
    (root / ENTRIES / f"{IMAGE}_{done.version}+3-0.efi").touch()
    applied = Applied(done.version, facts.version, int(time.time()))
    save(_with(load(root), applied), root)
    clear(root)
    say(f"{done.version}: written, and boots next")
    return done.version


def _with(state: Any, applied: Applied) -> Any:  # noqa: ANN401
    return type(state)(state.serials, state.failed, applied, state.updated)


def make(root: Path, version: str, inference: Mapping[str, Any], **sim: Any) -> None:  # noqa: ANN401
    """Fill a folder: a node that runs `version` and serves."""
    model = inference["model"]
    chosen: dict[str, Any] = {"labels": [f"{IMAGE}_{version}", "_empty"], "models": [model]}
    chosen |= {"offer": None, "bad": [], "sick": [], "fault": None, "known": [model], **sim}
    put(root / "sim.json", chosen)
    serve_facts = {
        "port": 1,
        "memory_percent": 90,
        "cpus_reserved": 1,
        "shm": 1 << 30,
        "pids": 8192,
        "start_timeout_s": 60,
        "args": {},
        "env": {},
    }
    image = {
        "image_id": IMAGE,
        "version": version,
        "epoch": 0,
        "releases": "https://releases.example",
        "updates": {"channel": "stable", "apply": "check"},
        "gpus": 0,
        "serve": serve_facts,
        "models": None,
    }
    put(root / "usr/lib/imgnode/image.json", image)
    bundles = [
        {"model": one, "revision": "main", "root_hash": "ab" * 32} for one in chosen["known"]
    ]
    payload = {"schema_version": 1, "container": None, "models": bundles, "files": []}
    put(root / "usr/lib/imgnode/payload.json", payload)
    put(root / f"run/imgnode/layers/{'ab' * 32}/config.json", {})
    put(root / "proc/cmdline", f"roothash={'ab' * 32}")
    put(root / "proc/meminfo", "MemTotal: 1024 kB\n")
    (root / "var").mkdir(exist_ok=True)
    for name in ("overlays/backup/usr/lib/imgnode/backup.conf", "image/etc-persist.conf"):
        shutil.copy(CHECKOUT / name, root / "usr/lib/imgnode")
    seed = {"inference": dict(inference), "source": "seed", "replaced": [], "device": "/dev/sim9"}
    put(root / "run/imgnode/node.json", seed)
    put(root / ENTRIES / f"{IMAGE}_{version}.efi", "")
    boot(root)


def main(root: Path, what: str, words: list[str]) -> None:
    reroot(root)
    process._finish = played(root)
    parts = {"fetch_channel": fetch_channel, "fetch_offer": fetch_offer, "stage": stage}
    for name, part in {**parts, "install": install}.items():
        setattr(run, name, part)
    if what == "reboot":
        reboot(root)
    elif what == "boot-id":
        print((root / "boot-id").read_text())
    elif what == "logger":
        with (root / "journal").open("a") as stream:
            stream.write(f"{words[-1]}\n")
    elif what == "systemctl" and words[0] == "restart":
        serve(root)
    elif what == "imgnode":
        cli.main(words)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

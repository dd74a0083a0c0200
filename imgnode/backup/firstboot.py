"""A node that was flashed anew takes its state back from the remote, when its seed says so.

Once in the life of a /var: `settled.json` says what came of it. Nothing here stops a boot.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from imgnode.backup import report, targets
from imgnode.backup.restore import SEED, Wish, restore
from imgnode.backup.stage import HOME, home
from imgnode.backup.take import Say
from imgnode.backup.trouble import MISSING, REACH, Trouble
from imgnode.backupconfig import LATEST
from imgnode.files import write_atomic
from imgnode.gate.report import HISTORY
from imgnode.process import run
from imgnode.serve.facts import read_json

_SETTLED = HOME / "settled.json"
_BEGUN = "begun"
_WAITS_S = (2, 5, 10, 20, 30, 30, 30, 30)  # for a network that comes up late
_PATIENCE_S = 180  # then no more tries begin: a remote that hangs takes minutes for each
_now = time.monotonic
_ERR = "<3>"  # sd-daemon(3)
_APPLY_S = 240


def at_boot(say: Say, root: Path = Path("/")) -> None:
    """Publish what is remembered; at the first boot of a new /var, bring the state back.

    Raises OSError.
    """
    report.write_metrics(root)
    before = read_json(root / _SETTLED)
    if before and before.get("state") != _BEGUN:
        return
    config = targets.settings(root)
    # The gate judges every boot and runs after this: a history is a life of its own.
    lived = (root / HISTORY).exists() and not before
    if lived or not config.remote or config.restore != LATEST:
        why = "this /var has been in use" if lived else "the seed does not ask for it"
        _settle(f"nothing was brought back: {why}", root)
        return
    _settle(_BEGUN, root)
    _settle(_restore(say, root), root)


def _restore(say: Say, root: Path) -> str:
    """Bring everything back, and return what came of it in a line."""
    wish = Wish(target=targets.REMOTE, fill_only=frozenset({SEED}))
    try:
        changed = _patiently(wish, say, root)
    except Trouble as trouble:
        if trouble.kind == MISSING:
            return f"nothing was brought back: {trouble}"
        report.failed(report.RESTORE, trouble, root)
        print(f"{_ERR}backup: nothing was brought back: {trouble}", file=sys.stderr)
        print(f"{_ERR}backup: later, by hand: sudo imgnode backup restore", file=sys.stderr)
        return f"failed: {trouble}"
    if SEED in changed:
        # The present seed had a mistake, and now there is a good one to go back to.
        run(["systemctl", "restart", "imgnode-seed.service"], timeout_s=_APPLY_S)
    return f"brought back: {', '.join(changed) or 'nothing new'}"


def _patiently(wish: Wish, say: Say, root: Path) -> list[str]:
    began = _now()
    for wait in _WAITS_S:
        try:
            return restore(wish, say, root)
        except Trouble as trouble:
            if trouble.kind != REACH or _now() - began > _PATIENCE_S:
                raise
            say(f"{trouble}; again in {wait} s")
            time.sleep(wait)
    return restore(wish, say, root)


def _settle(state: str, root: Path) -> None:
    home(root)
    text = json.dumps({"state": state, "when": int(time.time())}, indent=1)
    write_atomic(root / _SETTLED, f"{text}\n")

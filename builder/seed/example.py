"""The text of an example seed, every key with its explanation."""

from __future__ import annotations

import json

from imgnode import backupconfig
from imgnode.inference import DOCS, EXAMPLES

_HEAD = """#cloud-config
# The seed of one node: who it is, who may log in, what it serves. Check it with
#   imgbuild seed check FILE{profile}
# and put it as `user-data` on the partition labelled CIDATA.
hostname: {hostname}

# Public keys of those who may log in as `admin`; without any, only the site's keys do.
# ssh_authorized_keys:
#   - ssh-ed25519 AAAA... you

# What this node serves. A line without # is in force; without a model nothing is served.
inference:
"""
_BACKUP = """
# Where the node's own state is kept a second time; without it, on the node's disk alone.
# backup:
"""


def example_seed(hostname: str, profile: str | None, *, active: frozenset[str]) -> str:
    """Return a seed in which only the keys in `active` are set, all others commented out."""
    profile_words = f" --profile {profile}" if profile else ""
    lines = [_HEAD.format(hostname=hostname, profile=profile_words)]
    for name, doc in DOCS.items():
        mark = "" if name in active else "# "
        lines += [f"  # {doc}\n", f"  {mark}{name}: {json.dumps(EXAMPLES[name])}\n"]
    lines.append(_BACKUP)
    for name, doc in backupconfig.DOCS.items():
        lines += [f"#   # {doc}\n", f"#   {name}: {json.dumps(backupconfig.EXAMPLES[name])}\n"]
    return "".join(lines)

"""What an image's config says about running it, as `docker import --change` takes it.

docker-import(1); the words are a Dockerfile's, so in double quotes a backslash takes the
meaning from `"`, `$` and itself (Dockerfile reference, Environment replacement).
"""

from __future__ import annotations

import json
import re
from typing import Any

_SPECIAL = re.compile(r'(["$\\])')


def instructions(config: str) -> list[str]:
    """Return one instruction for each setting (OCI image specification, `config`).

    Labels are left out: nothing runs differently for them. Raises ValueError for a value
    that these instructions cannot hold: one with a line break.
    """
    told: dict[str, Any] = json.loads(config).get("config") or {}
    found = [_variable(one) for one in told.get("Env") or ()]
    for key, word in (("WorkingDir", "WORKDIR"), ("User", "USER"), ("StopSignal", "STOPSIGNAL")):
        if told.get(key):
            found.append(f"{word} {_quoted(told[key])}")
    found += [f"EXPOSE {port}" for port in sorted(told.get("ExposedPorts") or ())]
    found += [f"VOLUME {json.dumps([path])}" for path in sorted(told.get("Volumes") or ())]
    # An entry point takes the command away that was told before it.
    for key, word in (("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD")):
        if told.get(key):
            found.append(f"{word} {json.dumps(told[key])}")
    return found


def _variable(text: str) -> str:
    name, _, value = text.partition("=")
    return f"ENV {name}={_quoted(value)}"


def _quoted(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError(f"a line break in {value!r}")
    return '"' + _SPECIAL.sub(r"\\\1", value) + '"'

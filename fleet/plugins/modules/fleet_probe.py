#!/usr/bin/python3
"""Asks the model on a node one question, and looks how right and how fast the answer is."""

from __future__ import annotations

import json
import time
import urllib.request

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: fleet_probe
short_description: Asks the model on this node one question
description: Sends one completion to the server on this node, and measures it. Changes nothing.
options:
  port: {type: int, default: 8000, description: the server's port on this node}
  prompt: {type: str, required: true, description: what is asked}
  expect: {type: str, default: "", description: what the answer must hold, in any case of letters}
  faster_than: {type: float, default: 0, description: tokens per second that it must make}
  max_tokens: {type: int, default: 32, description: how long the answer may be}
  timeout_s: {type: int, default: 120, description: seconds until it must be there}
author: imgbuild
"""

ARGUMENTS = {
    "port": {"type": "int", "default": 8000},
    "prompt": {"type": "str", "required": True},
    "expect": {"type": "str", "default": ""},
    "faster_than": {"type": "float", "default": 0.0},
    "max_tokens": {"type": "int", "default": 32},
    "timeout_s": {"type": "int", "default": 120},
}


def ask(port: int, body: dict[str, object], timeout_s: float) -> dict[str, object]:
    """Return the server's answer. Raises OSError or ValueError."""
    base = f"http://127.0.0.1:{port}/v1"
    with urllib.request.urlopen(f"{base}/models", timeout=timeout_s) as answer:
        name = json.load(answer)["data"][0]["id"]
    request = urllib.request.Request(
        f"{base}/completions",
        json.dumps({**body, "model": name, "temperature": 0}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def main() -> None:
    """Run as a module of Ansible."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    began = time.monotonic()
    try:
        body = {"prompt": asked["prompt"], "max_tokens": asked["max_tokens"]}
        answer = ask(asked["port"], body, asked["timeout_s"])
        text = answer["choices"][0]["text"]  # type: ignore[index]
        tokens = answer["usage"]["completion_tokens"]  # type: ignore[index]
    except (OSError, ValueError, LookupError, TypeError) as error:
        module.fail_json(msg=f"probe: no answer: {error}")
    speed = tokens / max(time.monotonic() - began, 1e-6)
    told = {"answer": text, "tokens_per_second": speed}
    if asked["expect"].lower() not in text.lower():
        module.fail_json(msg=f"probe: {asked['expect']!r} is not in the answer {text!r}", **told)
    if speed < asked["faster_than"]:
        floor = asked["faster_than"]
        module.fail_json(msg=f"probe: {speed:.1f} tokens a second, less than {floor:.1f}", **told)
    module.exit_json(changed=False, **told)


if __name__ == "__main__":
    main()

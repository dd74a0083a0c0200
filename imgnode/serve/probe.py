"""Asks the server on this node whether it answers, and whether it makes a token."""

from __future__ import annotations

import json

from imgnode import loopback
from imgnode.loopback import Answer

TIMED_OUT = "timed out"
_BODY = 200
_OK = 200


def health(port: int, *, timeout_s: float) -> str | None:
    """Return None when the server answers /health with 200, else what happened instead."""
    return _ask(port, "/health", timeout_s)[0]


def token(port: int, name: str, api_key: str | None, *, timeout_s: float) -> str | None:
    """Return None when the server completes a prompt by one token, else what happened instead."""
    body = json.dumps({"model": name, "prompt": "1", "max_tokens": 1, "temperature": 0})
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    wrong, answer = _ask(port, "/v1/completions", timeout_s, body.encode(), headers)
    if wrong:
        return wrong
    try:
        made = json.loads(answer)["usage"]["completion_tokens"]
    except (ValueError, LookupError, TypeError):
        return "the answer is no completion"
    return None if made else "the answer has no token"


def _ask(
    port: int,
    path: str,
    timeout_s: float,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[str | None, bytes]:
    try:
        answer = loopback.ask(port, path, limit_s=timeout_s, body=body, headers=headers)
    except TimeoutError:
        return TIMED_OUT, b""
    except OSError as error:
        return str(error) or type(error).__name__, b""
    return _refused(answer), answer.body


def _refused(answer: Answer) -> str | None:
    if answer.status == _OK:
        return None
    return f"HTTP {answer.status}: {' '.join(answer.text[:_BODY].split())}"

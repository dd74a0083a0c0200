"""Asks the server on this node whether it answers, and whether it makes a token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException

_HERE = "http://127.0.0.1"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever the proxy
_BODY = 200


def health(port: int, *, timeout_s: float) -> str | None:
    """Return None when the server answers /health with 200, else what happened instead."""
    return _ask(urllib.request.Request(f"{_HERE}:{port}/health"), timeout_s)[0]  # noqa: S310 - http


def token(port: int, name: str, api_key: str | None, *, timeout_s: float) -> str | None:
    """Return None when the server completes a prompt by one token, else what happened instead."""
    body = json.dumps({"model": name, "prompt": "1", "max_tokens": 1, "temperature": 0})
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    address = f"{_HERE}:{port}/v1/completions"
    wrong, answer = _ask(urllib.request.Request(address, body.encode(), headers), timeout_s)  # noqa: S310
    if wrong:
        return wrong
    try:
        made = json.loads(answer)["usage"]["completion_tokens"]
    except (ValueError, LookupError, TypeError):
        return "the answer is no completion"
    return None if made else "the answer has no token"


def _ask(request: urllib.request.Request, timeout_s: float) -> tuple[str | None, bytes]:
    try:
        with _DIRECT.open(request, timeout=timeout_s) as answer:
            return None, answer.read()
    except urllib.error.HTTPError as error:
        text = error.read(_BODY).decode(errors="replace")
        return f"HTTP {error.code}: {' '.join(text.split())}", b""
    except (OSError, HTTPException) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__, b""

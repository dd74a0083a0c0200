"""Asks a serving node for a chat completion, as any client would (OpenAI API)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from builder.vm.errors import VmError

_ANSWER_S = 600.0


@dataclass(frozen=True)
class Answer:
    """What the model said; `first_s` is the time to the first token, `seconds` to the last."""

    model: str
    text: str
    tokens: int
    first_s: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """The pace after the first token."""
        later = self.seconds - self.first_s
        return (self.tokens - 1) / later if self.tokens > 1 and later > 0 else 0.0


def ask(port: int, question: str, *, max_tokens: int = 32, key: str | None = None) -> Answer:
    """Send `question` to the server behind `port` of 127.0.0.1; return the model's answer.

    `key` is the API key where the server wants one. Raises VmError when the server does not
    answer, or not as the API says.
    """
    base = f"http://127.0.0.1:{port}/v1"
    try:
        with requests.Session() as session:
            if key is not None:
                session.headers["Authorization"] = f"Bearer {key}"
            listing = session.get(f"{base}/models", timeout=_ANSWER_S)
            listing.raise_for_status()
            model = str(listing.json()["data"][0]["id"])
            return _stream(session, base, model, question, max_tokens)
    except (requests.RequestException, ValueError, LookupError) as error:
        raise VmError(f"no chat completion from the node: {error}") from error


def _stream(
    session: requests.Session, base: str, model: str, question: str, max_tokens: int
) -> Answer:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.monotonic()
    first, pieces, tokens = 0.0, [], 0
    answer = session.post(f"{base}/chat/completions", json=body, timeout=_ANSWER_S, stream=True)
    answer.raise_for_status()
    for event in _events(answer):
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        for choice in event["choices"]:
            piece = choice["delta"].get("content")
            if piece:
                first = first or time.monotonic() - started
                pieces.append(piece)
    return Answer(model, "".join(pieces), tokens, first, time.monotonic() - started)


def _events(answer: requests.Response) -> Iterator[dict[str, Any]]:
    """Yield the values of a stream of server-sent events."""
    for line in answer.iter_lines():
        text = line.decode().removeprefix("data: ")
        if text and text != "[DONE]":
            yield json.loads(text)

"""Debian's Chromium without a screen, steered over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_ANSWER_S = 60.0
_TALL = 7000  # pixels: Chromium takes no larger picture
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip


class Where(Protocol):
    """Where a browser runs: a namespace, or here."""

    def argv(self, *words: str | Path) -> list[str]:
        """Return the command that runs `words` there."""


class Here:
    """This machine itself."""

    def argv(self, *words: str | Path) -> list[str]:
        """Return the command as it is."""
        return [str(word) for word in words]


@dataclass
class Page:
    """One page; `errors` has what its console complained of."""

    to: int
    of: int
    session: str = ""
    errors: list[str] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        told: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            told["sessionId"] = self.session
        os.write(self.to, json.dumps(told).encode() + b"\0")
        ends = time.monotonic() + _ANSWER_S
        while True:
            message = self._next(ends)
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def evaluate(self, script: str) -> Any:  # noqa: ANN401 - whatever the script gives
        """Return the value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, limit_s: float = 15.0) -> None:
        """Wait until an expression is true."""
        ends = time.monotonic() + limit_s
        while not self.evaluate(script):
            assert time.monotonic() < ends, f"{script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.1)

    def size(self, width: int, height: int, *, mobile: bool) -> None:
        """Show the page on a screen of this size."""
        scale = 2 if mobile else 1
        words = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **words)

    def scheme(self, name: str) -> None:
        """Let the reader's system be light or dark."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def fits(self) -> bool:
        """Return whether nothing is wider than the screen."""
        found: bool = self.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        return found

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save what is shown as PNG; `whole`: what lies below, too, as far as it takes that."""
        clip = {}
        if whole:
            page = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip["clip"] = {**page, "height": min(page["height"], _TALL), "scale": 1}
        found = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(json.dumps(params["args"]))

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.of], [], [], max(ends - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            data = os.read(self.of, 1 << 20)
            assert data, "Chromium ended"
            self._rest += data
        first, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(first)
        return found


@contextmanager
def browsing(host: Where, profile: Path, address: str) -> Iterator[Page]:
    """Give the page at `address`, as a browser on `host` shows it."""
    theirs_in, to = os.pipe()
    of, theirs_out = os.pipe()
    # It speaks on file descriptors 3 and 4.
    script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    words = ["chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with (profile.parent / "chromium.txt").open("w") as log:
        process = subprocess.Popen(
            host.argv("bash", "-c", script, "bash", *words),
            pass_fds=(theirs_in, theirs_out),
            stdout=log,
            stderr=log,
        )
    os.close(theirs_in)
    os.close(theirs_out)
    page = Page(to, of)
    try:
        targets = page.call("Target.getTargets")["targetInfos"]
        first = next(one["targetId"] for one in targets if one["type"] == "page")
        found = page.call("Target.attachToTarget", targetId=first, flatten=True)
        page.session = found["sessionId"]
        for room in ("Page", "Runtime", "Log"):
            page.call(f"{room}.enable")
        page.call("Page.navigate", url=address)
        yield page
    finally:
        os.close(to)
        os.close(of)
        process.terminate()
        process.wait(30)

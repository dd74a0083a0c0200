"""The application behind nginx: orders, reports, the page, its events, and a JSON API.

Reading needs no token; changes need `Authorization: Bearer` with the admin token. What it shows has
neither seeds nor tokens.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from builder.core.errors import UserError
from builder.serve import ipxe, view
from builder.serve.desk import Ask, Desk, Refusal
from builder.serve.identity import Identity, of_query
from builder.serve.progress import MOST_BYTES, parse_report

_EVERY_S = 1.0
_ALIVE_S = 15.0
_PAGE = Path(__file__).parent / "page"
_SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True)
class App:
    """The answers of one desk. `neighbour` is what the network says of an address."""

    desk: Desk
    admin_token: str
    neighbour: Callable[[str], Identity]

    def make(self) -> Starlette:
        """Return the application."""
        get, post = ["GET"], ["POST"]
        routes = [
            *(Route(path, self._file, methods=get) for path in _FILES),
            Route("/events", self._events, methods=get),
            Route("/api/nodes", self._nodes, methods=get),
            Route("/api/nodes/{name}", self._node, methods=get),
            Route("/api/nodes/{name}/again", self._again, methods=post),
            Route("/api/nodes/{name}/token", self._token, methods=post),
            Route("/api/nodes/{name}/allow", self._allow, methods=post),
            Route("/order", self._order, methods=get),
            Route("/progress/{name}/{key}", self._progress, methods=post),
            Route("/progress/{name}/{key}/share", self._share, methods=post),
            Route("/boot/boot.ipxe", self._first_script, methods=get),
            Route("/boot/machine.ipxe", self._machine_script, methods=get),
            Route("/boot/installer.efi", self._installer, methods=get),
        ]
        return Starlette(routes=routes, exception_handlers={UserError: _user_error})

    async def _file(self, request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        return Response((_PAGE / name).read_text(), headers={**_SAFE, "Content-Type": kind})

    async def _nodes(self, _: Request) -> Response:
        return _json({"nodes": view.as_json(view.rows(self.desk))})

    async def _node(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = [one for one in view.rows(self.desk) if one.name == name]
        if not found:
            return _json({"error": f"{name}: no machine has this name"}, 404)
        return _json(view.as_json(found)[0])

    async def _again(self, request: Request) -> Response:
        if refusal := self._no_change(request):
            return refusal
        self.desk.again(request.path_params["name"])
        return await self._node(request)

    async def _token(self, request: Request) -> Response:
        if refusal := self._no_change(request):
            return refusal
        name = request.path_params["name"]
        return _json({"name": name, "token": self.desk.token(name)})

    async def _allow(self, request: Request) -> Response:
        if refusal := self._no_change(request):
            return refusal
        name = request.path_params["name"]
        return _json({"name": name, "allowed": self.desk.allow(name).words})

    def _no_change(self, request: Request) -> Response | None:
        """Return the refusal of who has not shown the admin token."""
        given = request.headers.get("authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self.admin_token}".encode()):
            return None
        text = "changes need `Authorization: Bearer` with what STATE/admin-token holds"
        return _json({"error": text}, 401, {"WWW-Authenticate": "Bearer"})

    async def _order(self, request: Request) -> Response:
        who, address = self._who(request)
        answer = self.desk.order(Ask(who, address, request.query_params.get("token", "")))
        if isinstance(answer, Refusal):
            return PlainTextResponse(f"{answer.text}\n", answer.status, _SAFE)
        return _json(answer)

    async def _progress(self, request: Request) -> Response:
        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > MOST_BYTES:
                return PlainTextResponse("too large\n", 413)
        report = parse_report(data)
        if report is None:
            return PlainTextResponse("not a report\n", 400)
        words = request.path_params
        if not self.desk.report(words["name"], words["key"], report):
            return PlainTextResponse("nobody was ordered to report here\n", 404)
        return Response(status_code=204)

    async def _share(self, request: Request) -> Response:
        """Answer 202 to a machine that is to go on sharing, 204 to one that may leave."""
        words = request.path_params
        address = request.headers.get("x-real-ip", "")
        stays = self.desk.shares(words["name"], words["key"], address)
        if stays is None:
            return PlainTextResponse("nobody was ordered to share here\n", 404)
        return Response(status_code=202 if stays else 204)

    async def _first_script(self, _: Request) -> Response:
        return PlainTextResponse(ipxe.first(self.desk.sources.base))

    async def _machine_script(self, request: Request) -> Response:
        who, address = self._who(request)
        goes = self.desk.boots(who, address)
        return PlainTextResponse(ipxe.install(self.desk.sources.base) if goes else ipxe.disk())

    async def _installer(self, request: Request) -> Response:
        """Have nginx send the installer, to all but machines that are installed."""
        who, address = self._who(request)
        if not self.desk.boots(who, address):
            return PlainTextResponse("installed: boot from the disk\n", 404)
        kind = {"X-Accel-Redirect": "/boot.efi", "Content-Type": "application/efi"}
        return Response(headers=kind)

    def _who(self, request: Request) -> tuple[Identity, str]:
        """Return what a machine says of itself, or else what its network card does."""
        address = request.headers.get("x-real-ip", "")
        query = request.query_params
        said = of_query({key: query.getlist(key) for key in query})
        return (said if said.words else self.neighbour(address)), address

    async def _events(self, _: Request) -> Response:
        headers = {**_SAFE, "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=headers)

    async def _stream(self) -> AsyncIterator[str]:
        """Send all machines, then each second those that changed and the names that went."""
        known: dict[str, dict[str, object]] = {}
        quiet = _ALIVE_S  # the first one is sent even when there is no machine
        while True:
            now = {str(one["name"]): one for one in view.as_json(view.rows(self.desk))}
            changed = [one for name, one in now.items() if known.get(name) != one]
            gone = [name for name in known if name not in now]
            if changed or gone or quiet >= _ALIVE_S:
                told = {"now": self.desk.now(), "nodes": changed, "gone": gone}
                yield f"data: {json.dumps(told)}\n\n"
                quiet = 0.0
            known = now
            await asyncio.sleep(_EVERY_S)
            quiet += _EVERY_S


def _json(value: object, status: int = 200, more: dict[str, str] | None = None) -> Response:
    return JSONResponse(value, status, {**_SAFE, **(more or {})})


async def _user_error(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 409)

"""The application: statuses, who may change what, the page, and its events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from builder.serve.identity import make_identity
from builder.serve.web import App
from tests.unit.provision_desk import MAC, Room, room, who

NEAR = "52:54:00:00:00:77"


@pytest.fixture
def made(tmp_path: Path) -> Room:
    return room(tmp_path)


@pytest.fixture
def app(made: Room) -> App:
    return App(
        made.desk, "admin-secret", lambda address: make_identity("", "", [NEAR] if address else [])
    )


@pytest.fixture
def client(app: App) -> Iterator[TestClient]:
    with TestClient(app.make(), headers={"X-Real-IP": "10.9.0.50"}) as made:
        yield made


def _order(client: TestClient) -> dict[str, Any]:
    answer = client.get(f"/order?mac={MAC}&serial=S7")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_orders_and_reports(client: TestClient) -> None:
    report = str(_order(client)["report"]).removeprefix("http://10.9.0.1")
    body = {"schema_version": 1, "phase": "uki.efi", "done": 1, "total": 2}
    assert client.post(report, json=body).status_code == 204
    assert client.get("/api/nodes/gpu-07").json()["percent"] == 50
    assert client.post(report, content=b"{").status_code == 400
    assert client.post(report, content=b" " * 70_000).status_code == 413
    assert client.post("/progress/gpu-07/x", json=body).status_code == 404
    assert client.get(report).status_code == 405


def test_refusals_say_why(client: TestClient) -> None:
    assert client.get("/order?serial=S8").status_code == 403
    assert client.get("/order?serial=nobody").status_code == 404
    assert client.get("/order?serial=S10").status_code == 409
    assert client.get("/api/nodes/nothing").status_code == 404
    assert "is in the inventory" not in client.get("/order?serial=nobody").text


def test_a_machine_that_says_nothing_is_asked_of_the_network(
    client: TestClient, made: Room
) -> None:
    assert client.get("/order").status_code == 404
    assert [one.who.macs for one in made.desk.store.waiting()] == [(NEAR,)]


def test_installed_machines_are_sent_to_their_disks(client: TestClient, made: Room) -> None:
    here = f"?mac={MAC}"
    answer = client.get(f"/boot/installer.efi{here}")
    assert (answer.status_code, answer.headers["x-accel-redirect"]) == (200, "/boot.efi")
    assert "installer.efi" in client.get(f"/boot/machine.ipxe{here}").text
    assert made.desk.store.node("gpu-07").phase == "boot"
    report = str(_order(client)["report"]).removeprefix("http://10.9.0.1")
    client.post(report, json={"schema_version": 1, "phase": "done"})
    assert client.get(f"/boot/installer.efi{here}").status_code == 404
    assert client.head(f"/boot/installer.efi{here}").status_code == 404
    assert client.get(f"/boot/machine.ipxe{here}").text == "#!ipxe\nexit 1\n"


@pytest.mark.parametrize("given", ["", "admin-secret", "Bearer", "Bearer x", "Basic admin-secret"])
def test_changes_need_the_admin_token(client: TestClient, given: str) -> None:
    for path in ("again", "token", "allow"):
        headers = {"Authorization": given}
        assert client.post(f"/api/nodes/gpu-07/{path}", headers=headers).status_code == 401
        assert client.get(f"/api/nodes/gpu-07/{path}").status_code == 405


def test_changes_with_the_admin_token(client: TestClient) -> None:
    headers = {"Authorization": "Bearer admin-secret"}
    token = client.post("/api/nodes/gpu-08/token", headers=headers).json()["token"]
    assert client.get(f"/order?serial=S8&token={token}").status_code == 200
    assert client.post("/api/nodes/gpu-08/again", headers=headers).json()["state"] == "expected"
    assert client.get(f"/order?serial=S8&token={token}").status_code == 403
    allowed = client.post("/api/nodes/gpu-08/allow", headers=headers).json()
    assert allowed == {"name": "gpu-08", "allowed": ["serial S8"]}
    answer = client.post("/api/nodes/nobody/again", headers=headers)
    assert (answer.status_code, "not in the inventory" in answer.json()["error"]) == (409, True)


def test_what_is_shown_has_no_secrets(client: TestClient, made: Room) -> None:
    report = _order(client)["report"]
    token = made.desk.token("gpu-08")
    client.get(f"/order?serial=S8&token={token}")
    text = client.get("/api/nodes").text
    for secret in (token, str(report).rpartition("/")[2], "secret of gpu-08", "admin-secret"):
        assert secret not in text


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert 'name="viewport"' in page.text
    for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert "://" not in answer.text
        assert "innerHTML" not in answer.text
    assert client.get("/page.html").status_code == 404


def test_events_bring_all_then_what_changed(
    app: App, made: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.serve.web._EVERY_S", 0.0)

    async def listen() -> list[dict[str, Any]]:
        stream = app._stream()
        told = [await anext(stream)]
        made.ask(who("S7", "", MAC))
        told.append(await anext(stream))
        made.refused(who("X"))
        told.append(await anext(stream))
        made.desk.store.forget("X")
        told.append(await anext(stream))
        return [json.loads(one.removeprefix("data: ")) for one in told]

    whole, changed, more, less = asyncio.run(listen())
    assert len(whole["nodes"]) == 4
    assert [one["name"] for one in changed["nodes"]] == ["gpu-07"]
    assert [one["name"] for one in more["nodes"]] == ["X"]
    assert (less["nodes"], less["gone"]) == ([], ["X"])

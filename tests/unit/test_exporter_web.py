"""The server of one page: HTTP, users, TLS, by the file that exporters of Prometheus take."""

from __future__ import annotations

import base64
import crypt
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from imgnode.exporter import webconfig
from imgnode.exporter.users import Users
from imgnode.exporter.web import Server

HASH = crypt.crypt("secret", "$2b$04$" + "a" * 22)
Asked = Callable[[str], str]


def header(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), lambda: "imgnode_x 1\n") as made:
        yield made


@contextmanager
def connection(server: Server) -> Iterator[socket.socket]:
    """Give a connection that the server answers in a thread, as it would one that came in."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=server.process_request, args=(theirs, ("", 0)))
    thread.start()
    with ours:
        ours.settimeout(20)
        yield ours
    thread.join()


def ask(server: Server, request: str, tls: ssl.SSLContext | None = None) -> str:
    with connection(server) as plain:
        ours = tls.wrap_socket(plain, server_hostname="node") if tls else plain
        ours.sendall(request.encode())
        data = b""
        with suppress(ConnectionResetError):  # closed with more to read
            while more := ours.recv(1 << 16):
                data += more
        return data.decode()


def get(path: str = "/metrics", *lines: str) -> str:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: node", *lines, "", ""])


def test_the_page(server: Server) -> None:
    head, _, body = ask(server, get()).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert "\r\nContent-Length: 12\r\n" in head
    assert body == "imgnode_x 1\n"
    assert ask(server, get("/metrics?a=b")).endswith("imgnode_x 1\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 200),
        (get("/etc/passwd"), 404),
        ("POST /metrics HTTP/1.1\r\n\r\n", 405),
        ("hello\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nX: " + "a" * 9000, 400),
    ],
    ids=["/", "another", "POST", "no HTTP", "without end"],
)
def test_other_requests(server: Server, request_: str, status: int) -> None:
    answer = ask(server, request_)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "imgnode_x" not in answer


def test_head_has_no_body(server: Server) -> None:
    assert ask(server, get().replace("GET", "HEAD")).endswith("\r\n\r\n")


def test_who_hangs_up_disturbs_nobody(server: Server) -> None:
    with connection(server) as one:
        one.sendall(b"GET /met")
    assert ask(server, get()).endswith("imgnode_x 1\n")


def test_too_many_connections_are_hung_up_on(server: Server) -> None:
    for _ in range(16):
        assert server._room.acquire(blocking=False)
    with connection(server) as one:
        assert one.recv(1) == b""
    server._room.release()
    assert ask(server, get()).endswith("imgnode_x 1\n")


def test_only_named_users_are_let_in(server: Server) -> None:
    server.admit = Users({"prometheus": HASH}).admit
    refused = ask(server, get())
    assert refused.startswith("HTTP/1.1 401 ")
    assert '\r\nWWW-Authenticate: Basic realm="imgnode"\r\n' in refused
    assert "imgnode_x" not in refused
    right = f"authorization: {header('prometheus', 'secret')}"
    assert ask(server, get("/metrics", right)).endswith("imgnode_x 1\n")
    wrong = f"Authorization: {header('prometheus', 'Secret')}"
    assert ask(server, get("/metrics", wrong)).startswith("HTTP/1.1 401 ")


def test_hashes_of_bcrypt() -> None:
    """The vector is one of crypt_blowfish's own, by the prefix that htpasswd -B writes."""
    vector = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
    assert Users({"a": vector}).admit(header("a", "U*U"))
    assert not Users({"a": vector}).admit(header("a", "U*V"))


@pytest.mark.parametrize(
    "value",
    ["", "Basic", "Basic !!!", "Basic " + base64.b64encode(b"prometheus").decode(),
     header("nobody", "secret"), header("prometheus", "secret\0x"), header("", ""),
     header("prometheus", "secret").replace("Basic", "Bearer")],
)  # fmt: skip
def test_what_is_no_right_header(value: str) -> None:
    assert not Users({"prometheus": HASH}).admit(value)


def test_a_password_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    genuine = crypt.crypt

    def counted(word: str, salt: str) -> str:
        hashed.append(word)
        return genuine(word, salt)

    monkeypatch.setattr(crypt, "crypt", counted)
    users = Users({"prometheus": HASH})
    assert all(users.admit(header("prometheus", "secret")) for _ in range(3))
    assert hashed == ["secret"]
    assert not users.admit(header("prometheus", "other"))
    assert hashed == ["secret", "other"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a certificate for `node` and its key."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-subj", "/CN=node", "-addext", "subjectAltName=DNS:node", "-days", "2"]
    words += ["-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.crt")]
    subprocess.run(words, check=True, capture_output=True)
    return tmp_path


def config(folder: Path, text: str) -> webconfig.WebConfig:
    path = folder / "web.yml"
    path.write_text(text)
    return webconfig.read(path)


TLS = "tls_server_config: {cert_file: tls.crt, key_file: tls.key"


@pytest.mark.allow_commands("openssl")
def test_tls_and_users(server: Server, folder: Path) -> None:
    read = config(folder, f"{TLS}}}\nbasic_auth_users: {{prometheus: {HASH}}}\n")
    server.tls, server.admit = read.tls, Users(read.users).admit
    trust = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    right = f"Authorization: {header('prometheus', 'secret')}"
    assert ask(server, get("/metrics", right), trust).endswith("imgnode_x 1\n")
    assert ask(server, get(), trust).startswith("HTTP/1.1 401 ")
    assert "imgnode_x" not in ask(server, get("/metrics", right))


@pytest.mark.allow_commands("openssl")
def test_a_certificate_may_be_asked_of_the_client(server: Server, folder: Path) -> None:
    more = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: tls.crt"
    server.tls = config(folder, f"{TLS}, {more}}}").tls
    trust = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    with pytest.raises(ssl.SSLError):
        ask(server, get(), trust)
    trust.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    assert ask(server, get(), trust).endswith("imgnode_x 1\n")


def test_an_empty_file_means_plain_http(tmp_path: Path) -> None:
    for text in ("", "{}", "# nothing\n"):
        assert config(tmp_path, text) == webconfig.WebConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1: is not YAML"),
        ("a: &x 1", "anchors"),
        ("- a", "must be a map"),
        ("http_server_config: {http2: false}", "http_server_config: is not known here"),
        ("basic_auth_users: {a: secret}", "basic_auth_users.a: must be a hash by bcrypt"),
        ("basic_auth_users: [a]", "basic_auth_users: must be a map"),
        ("tls_server_config: {key_file: b}", "tls_server_config.cert_file: is required"),
        ("tls_server_config: {cert_file: a, key_file: b}", "No such file"),
        ("tls_server_config: {cipher_suites: [x]}", "tls_server_config: cipher_suites: is not"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}", "must be one of"),
    ],
)
def test_what_it_does_not_understand_it_refuses(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match="web.yml: ") as caught:
        config(tmp_path, text)
    assert words in str(caught.value)

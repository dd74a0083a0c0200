"""The configuration of nginx: files by sendfile, all else to the application."""

from __future__ import annotations

from pathlib import Path

from builder.core.errors import UserError
from builder.serve.place import Place

# Queries are not logged: they hold tokens. Reports are, in the application, as progress.
_TEXT = """\
# Made by `imgbuild serve`: changes are lost.
{user}daemon off;
pid {run}/nginx.pid;
error_log {run}/nginx.log warn;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    types {{ }}
    default_type application/octet-stream;
    log_format plain '$time_iso8601 $remote_addr $request_method $uri $status $body_bytes_sent';
    access_log {access};
    client_body_temp_path {run}/nginx-body;
    proxy_temp_path {run}/nginx-proxy;
    fastcgi_temp_path {run}/nginx-none;
    uwsgi_temp_path {run}/nginx-none;
    scgi_temp_path {run}/nginx-none;
    sendfile on;
    sendfile_max_chunk 2m;
    tcp_nopush on;
    keepalive_timeout 65;
    client_max_body_size 64k;
    client_header_timeout 20;
    client_body_timeout 20;
    send_timeout 60;
    server_tokens off;
    disable_symlinks off;
    server {{
        listen {listen};
{releases}        location = /boot.efi {{
            internal;
            alias {installer};
        }}
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For "";
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_read_timeout 1h;
        location /progress/ {{
            access_log off;
            proxy_pass http://unix:{socket};
        }}
        location / {{
            proxy_pass http://unix:{socket};
        }}
    }}
}}
"""
_RELEASES = """\
        location /releases/ {{
            alias {folder}/;
            autoindex off;
            location ~ /\\. {{ return 404; }}
        }}
"""


def nginx(place: Place) -> str:
    """Return the configuration. Raises UserError for a path that cannot stand in it."""
    releases = _RELEASES.format(folder=_quoted(place.releases)) if place.releases else ""
    log = f"{_quoted(place.run / 'access.log')} plain"
    return _TEXT.format(
        user=f"user {place.user};\n" if place.user else "",
        run=_quoted(place.run),
        access=log,
        listen=f"{place.address}:{place.server.port}",
        releases=releases,
        installer=_quoted(place.installer),
        socket=_quoted(place.socket),
    )


def _quoted(path: Path) -> str:
    text = str(path)
    if set(text) & set("\"'\\;{}$ \t\r\n"):
        hint = "choose a folder without blanks, quotes, braces, dollars and semicolons"
        raise UserError(f"{text!r}: cannot stand in nginx's configuration", hint=hint)
    return text

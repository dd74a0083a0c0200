"""How alerts leave the node: Alertmanager's API v2, and mail by the sendmail interface."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from imgnode.alert.alert import Alert
from imgnode.alert.channels import MAIL, REPEAT_S, SENDMAIL, WEBHOOK, read_receivers
from imgnode.process import run
from imgnode.serve.secrets import credentials

AUTH = "alert-auth"  # credential imgnode.alert-auth: the value of the header Authorization
_POST_S, _MAIL_S = 20.0, 40.0
_API = "/api/v2/alerts"
_OK = range(200, 300)


class NotSent(Exception):
    """A channel did not take the alerts."""


def send(channel: str, alerts: Sequence[Alert], root: Path = Path("/")) -> None:
    """Send alerts by a channel. Raises NotSent."""
    receivers = read_receivers(root)
    if channel == WEBHOOK and receivers.webhook:
        _post(address(receivers.webhook), body(alerts, time.time()), root)
    elif channel == MAIL and receivers.mail:
        words = [f"/{SENDMAIL}", "-t", "-i"]
        done = run(words, timeout_s=_MAIL_S, stdin=letter(alerts, receivers.mail))
        if done.rc:
            raise NotSent(f"sendmail: {done.stderr.strip() or f'exit code {done.rc}'}")
    else:
        raise NotSent(f"the site names no receiver for {channel}")


def address(receiver: str) -> str:
    """Return where to post: Alertmanager's own address is enough."""
    base = receiver.rstrip("/")
    return base if base.endswith(_API) else f"{base}{_API}"


def body(alerts: Sequence[Alert], now: float) -> str:
    """Return the alerts as `postableAlerts` of Alertmanager's openapi.yaml (API v2).

    One that is firing ends by itself when it is not told again: a node that is gone does not
    fire for ever.
    """
    ends = now + 3 * REPEAT_S[WEBHOOK]
    told = [
        {
            "labels": dict(one.labels),
            "annotations": dict(one.annotations),
            "startsAt": _rfc3339(one.starts),
            "endsAt": _rfc3339(ends if one.ends is None else one.ends),
        }
        for one in alerts
    ]
    return json.dumps(told)


def letter(alerts: Sequence[Alert], to: str) -> str:
    """Return one mail about all alerts (RFC 5322, RFC 3834)."""
    firing = [one for one in alerts if one.ends is None]
    first = (firing or list(alerts))[0]
    more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    state = "alert" if firing else "over"
    mail = EmailMessage()
    mail["To"] = to
    mail["Subject"] = f"[{first.labels['instance']}] {state}: {first.labels['alertname']}{more}"
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain="imgnode")
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n\n".join(_paragraph(one) for one in alerts) + "\n")
    return mail.as_string()


def _paragraph(one: Alert) -> str:
    state = "over" if one.ends is not None else one.labels["severity"]
    times = f"since {_rfc3339(one.starts)}" + (f" until {_rfc3339(one.ends)}" if one.ends else "")
    return f"{one.labels['instance']}: {state}: {one}\n{one.labels['alertname']}, {times}"


def _post(url: str, text: str, root: Path) -> None:
    headers = {"Content-Type": "application/json"}
    auth = credentials(root)(AUTH)
    if auth:
        headers["Authorization"] = auth
    request = urllib.request.Request(url, text.encode(), headers, method="POST")  # noqa: S310 - http(s), the site's model says so
    try:
        with urllib.request.urlopen(request, timeout=_POST_S) as answer:  # noqa: S310 - as above
            if answer.status not in _OK:
                raise NotSent(f"{url}: {answer.status}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotSent(f"{url}: {error}") from None


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

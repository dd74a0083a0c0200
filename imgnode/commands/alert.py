"""`imgnode alert`: what is told to people, and whether it reaches them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from imgnode.alert.alert import of_finding
from imgnode.alert.book import Book
from imgnode.alert.channels import MAIL, read_receivers
from imgnode.alert.send import NotSent, send
from imgnode.commands.group import Commands, group
from imgnode.health.contract import Finding, Level

_ROOT = Path("/")


def add(commands: Commands) -> None:
    """Add the subcommands."""
    alert = group(commands, "alert", "what is told to people, and whether it reaches them")
    one = alert.add_parser("status", help="alerts that fire, and the channels")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_status)
    one = alert.add_parser("test", help="send a test alert by every channel, now")
    one.set_defaults(run=_test)


def _status(arguments: argparse.Namespace) -> None:
    firing, receivers = Book(_ROOT).firing, read_receivers(_ROOT)
    if arguments.json:
        told = [{"labels": dict(one.labels), "starts": one.starts} for one in firing]
        print(json.dumps({"firing": told, "channels": receivers.channels(_ROOT)}, indent=1))
        return
    for one in firing:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one.starts))
        print(f"{one.labels['severity']:<9} since {since}  {one.labels['alertname']}: {one}")
    print(f"webhook  {receivers.webhook or 'none: alerts.receiver of the site'}")
    mail = receivers.mail or "none: alerts.mail of the site"
    without = receivers.mail and MAIL not in receivers.channels(_ROOT)
    print(f"mail     {mail}{' (this image has no sendmail)' if without else ''}")


def _test(_: argparse.Namespace) -> None:
    fact = "a person tries whether alerts arrive; nothing is wrong"
    alert = of_finding(Finding("alert", "test", Level.WARNING, fact), time.time())
    channels, failed = read_receivers(_ROOT).channels(_ROOT), 0
    for channel in channels:
        try:
            send(channel, [alert], _ROOT)
            print(f"{channel}: sent")
        except NotSent as error:
            failed += 1
            print(f"imgnode: {channel}: {error}", file=sys.stderr)
    if not channels:
        raise SystemExit("imgnode: nobody to be told (hint: `alerts` of the site file)")
    sys.exit(int(failed > 0))

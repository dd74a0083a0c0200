"""Where alerts go: what the site says, and what this image can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.serve.facts import read_json

WEBHOOK, MAIL = CHANNELS = ("webhook", "mail")
REPEAT_S = {WEBHOOK: 120.0, MAIL: 86400.0}  # Alertmanager forgets what is not told again
LIMIT_S = 60.0
SENDMAIL = Path("usr/sbin/sendmail")
_FACTS = Path("usr/lib/imgnode/image.json")


@dataclass(frozen=True)
class Receivers:
    """Where the site wants alerts: address of a webhook, address of a mailbox."""

    webhook: str | None = None
    mail: str | None = None

    def channels(self, root: Path = Path("/")) -> tuple[str, ...]:
        """Return the channels that this node can use."""
        mail = self.mail and (root / SENDMAIL).exists()
        return tuple(name for name, one in ((WEBHOOK, self.webhook), (MAIL, mail)) if one)


def read_receivers(root: Path = Path("/")) -> Receivers:
    """Return what the image says; nobody where it says nothing."""
    told = (read_json(root / _FACTS) or {}).get("alerts") or {}
    return Receivers(told.get("receiver"), told.get("mail"))

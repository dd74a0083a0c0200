"""The encrypted /var: its recovery key, and what its TPM opens it for (docs/encryption.md).

The initrd makes and opens it (image/initrd-tpm); the recovery key lies on it, for root alone: who
is root there has all that it opens.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from imgnode import process
from imgnode.files import flush_folder, write_atomic

_DEVICE = Path("run/imgnode/var-device")
_DEGRADED = Path("run/imgnode/var-degraded")
_FOLDER = Path("var/lib/imgnode/encryption")
_KEY, _NEXT, _FETCHED = "recovery-key", "recovery-key.next", "fetched"
_PUBLIC_KEY = Path("run/systemd/tpm2-pcr-public-key.pem")
_COMMAND_S = 300
# systemd-cryptenroll(1) writes recovery keys so: letters that lie alike on most keyboards.
_LETTERS = str.maketrans("0123456789abcdef", "cbdefghijklnrtuv")
_GROUP = 8
# It is as long as what it opens: stretching it would only cost time.
_PLAIN = ("--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
_BY_TPM = ("--token-only", "--token-type", "systemd-tpm2")
_PCRS = ("--tpm2-device=auto", "--tpm2-pcrs=7", "--tpm2-public-key-pcrs=11")


class SealError(Exception):
    """What did not work; `hint` says what to do."""

    def __init__(self, what: str, hint: str = "journalctl -b; dmesg") -> None:
        super().__init__(f"{what} (hint: {hint})")


@dataclass(frozen=True)
class Sealed:
    """The encrypted partition; whether it is /var now, and whether anybody has its recovery key."""

    device: str
    opened: bool
    fetched: bool


def read(root: Path = Path("/")) -> Sealed | None:
    """Return how the encrypted /var is; None where this version does not want it encrypted."""
    try:
        device = (root / _DEVICE).read_text().strip()
    except FileNotFoundError:
        return None
    opened = not (root / _DEGRADED).exists()
    return Sealed(device, opened, (root / _FOLDER / _FETCHED).exists())


def lines(sealed: Sealed | None) -> list[str]:
    """Return what `imgnode status` tells of it; of one that is not open it tells elsewhere."""
    if sealed is None or not sealed.opened:
        return []
    lacks = "; nobody has its recovery key yet: sudo imgnode var recovery-key"
    return [f"var      encrypted, opened by the TPM{'' if sealed.fetched else lacks}"]


def keep(root: Path = Path("/")) -> bool:
    """Give /var a recovery key where it has none; tell whether it was so.

    A key is written down before it opens anything. Raises SealError, OSError.
    """
    sealed, folder = _open(root), root / _FOLDER
    if (folder / _KEY).exists():
        return False
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # everybody may see whether somebody has the key
    following = folder / _NEXT
    if not (following.exists() and _opens(sealed.device, following.read_text())):
        write_atomic(following, new_key(), 0o600)
        _add(sealed.device, _BY_TPM, following)
    _settle(folder)
    return True


def renew(root: Path = Path("/")) -> None:
    """Replace the recovery key by another. Raises SealError, OSError."""
    sealed, folder = _open(root), root / _FOLDER
    old = recovery_key(root)
    write_atomic(folder / _NEXT, new_key(), 0o600)
    _add(sealed.device, ("--key-file", str(folder / _KEY)), folder / _NEXT)
    (folder / _FETCHED).unlink(missing_ok=True)
    _settle(folder)
    argv = ["cryptsetup", "luksRemoveKey", "--batch-mode", "--key-file", "-", sealed.device]
    _must(process.run(argv, timeout_s=_COMMAND_S, stdin=old), "the old recovery key stays")


def recovery_key(root: Path = Path("/")) -> str:
    """Return the recovery key. Raises SealError where there is none, OSError for strangers."""
    try:
        return (root / _FOLDER / _KEY).read_text()
    except FileNotFoundError:
        fact = "there is no recovery key on /var"
        raise SealError(fact, "systemctl status imgnode-var-key") from None


def note_fetched(root: Path = Path("/")) -> None:
    """Note that somebody has the recovery key. Raises OSError."""
    write_atomic(root / _FOLDER / _FETCHED, "")


def seal(key: str, also: Path | None = None, root: Path = Path("/")) -> str:
    """Let the TPM open the partition for this version's signing key and firmware; return which.

    With `also`, a public key, for images of that key besides. Raises SealError.
    """
    sealed = read(root)
    if sealed is None:
        raise SealError("there is no encrypted /var", "is this version's profile one with it?")
    if not _opens(sealed.device, key):
        raise SealError(f"that key does not open {sealed.device}", "give its recovery key")
    public = also or root / _PUBLIC_KEY
    if not public.is_file():
        raise SealError(f"{public}: there is no such public key", "imgbuild keys pcr makes one")
    if also is None:
        # First: a place that another TPM has sealed would be taken for this one's.
        wipe = ["systemd-cryptenroll", "--wipe-slot=tpm2", sealed.device]
        _must(process.run(wipe, timeout_s=_COMMAND_S), "what was sealed before stays")
    argv = ["systemd-cryptenroll", *_PCRS, f"--tpm2-public-key={public}", sealed.device]
    done = process.run(argv, timeout_s=_COMMAND_S, env={"PASSWORD": key})
    _must(done, "nothing is sealed: until that works, only the recovery key opens it")
    return sealed.device


def new_key() -> str:
    """Return a recovery key of 256 bits, as people read and type it."""
    text = secrets.token_hex(32).translate(_LETTERS)
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def _open(root: Path) -> Sealed:
    sealed = read(root)
    if sealed is None or not sealed.opened:
        raise SealError("/var is not on an encrypted partition", "imgnode status")
    return sealed


def _opens(device: str, key: str) -> bool:
    # Without the option the TPM would open it, whatever the key.
    words = ["--test-passphrase", "--disable-external-tokens", "--batch-mode", "--key-file", "-"]
    argv = ["cryptsetup", "open", *words, device]
    return process.run(argv, timeout_s=_COMMAND_S, stdin=key).rc == 0


def _add(device: str, by: tuple[str, ...], key: Path) -> None:
    argv = ["cryptsetup", "luksAddKey", *_PLAIN, *by, device, str(key)]
    _must(process.run(argv, timeout_s=_COMMAND_S), f"{device} takes no recovery key")


def _settle(folder: Path) -> None:
    (folder / _NEXT).replace(folder / _KEY)
    flush_folder(folder)


def _must(done: process.Finished, what: str) -> None:
    if done.rc:
        raise SealError(f"{what}: {' '.join(done.stderr.split())[-300:]}")

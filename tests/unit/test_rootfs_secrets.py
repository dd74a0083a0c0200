"""A root that holds a secret stops the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.rootfs.secrets import check_secrets

SHADOW = "root:*:19000:0:99999:7:::\nadmin:!*:19000:0:99999:7:::\n"
BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/shadow").write_text(SHADOW)
    (tmp_path / "etc/gshadow").write_text("root:*::\nsudo:::\nadmin:!::\n")
    return tmp_path


def armour(kind: str, body: str = BODY) -> str:
    """Return an armoured key; put together here, so that no scanner takes this file for one."""
    return f"-----{'BEGIN'} {kind}-----\n{body}\n-----END {kind}-----\n"


def test_a_clean_root_passes(root: Path) -> None:
    (root / "etc/public").write_text(armour("PUBLIC KEY") + armour("CERTIFICATE"))
    (root / "etc/tool.py").write_text(f'KEY = "{armour("PRIVATE KEY").splitlines()[0]}"\n')
    (root / "etc/example").write_text(
        "".join(f"  {x}\n" for x in armour("PRIVATE KEY").split("\n"))
    )
    (root / "etc/gone").symlink_to("/nowhere")
    check_secrets(root)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("PRIVATE KEY", BODY),
        ("RSA PRIVATE KEY", f"Proc-Type: 4,ENCRYPTED\n\n{BODY}"),
        ("OPENSSH PRIVATE KEY", BODY),
        ("EC PRIVATE KEY", f"{BODY}\r"),
        ("PGP PRIVATE KEY BLOCK", f"\n{BODY}"),
    ],
)
def test_a_private_key_anywhere_is_found(root: Path, kind: str, body: str) -> None:
    (root / "usr/share").mkdir(parents=True)
    (root / "usr/share/site.pem").write_text("# ours\n" + armour(kind, body))
    with pytest.raises(UserError, match=r"/usr/share/site\.pem is a private key") as caught:
        check_secrets(root)
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("line", "told"),
    [("op:$y$j9T$abc:1::::::\n", "has a password"), ("op::1::::::\n", "needs none")],
)
def test_a_user_with_a_password_or_without_need_of_one_is_found(
    root: Path, line: str, told: str
) -> None:
    (root / "etc/shadow").write_text(SHADOW + line)
    with pytest.raises(UserError, match=f"/etc/shadow: op {told}"):
        check_secrets(root)

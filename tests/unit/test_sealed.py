"""The encrypted /var on the node: its recovery key, and sealing it anew."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from imgnode import process, sealed
from imgnode.cli import main
from imgnode.commands import var
from imgnode.process import Finished
from imgnode.sealed import Sealed, SealError

DEVICE = "/dev/vda6"
FOLDER = Path("var/lib/imgnode/encryption")
GOOD = Finished(0, "", "")


class Luks:
    """A partition's header: the keys that open it, and for which public keys the TPM does."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.seals = ["/old.pem"]
        self.fails: set[str] = set()
        self.seen: list[list[str]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,  # noqa: ARG002
        stdin: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        self.seen.append(list(argv))
        assert DEVICE in argv
        word = next(one for one in argv[1:] if not one.startswith("--tpm2"))
        if word in self.fails:
            return Finished(1, "", "no\nway")
        if argv[0] == "systemd-cryptenroll":
            return self._enrol(argv, dict(env or {}))
        if word == "open":
            return GOOD if stdin in self.keys else Finished(2, "", "No key available")
        if word == "luksRemoveKey":
            self.keys.remove(stdin)
            return GOOD
        assert word == "luksAddKey"
        if "--token-only" in argv:
            assert self.seals
        else:
            assert Path(argv[argv.index("--key-file") + 1]).read_text() in self.keys
        self.keys.append(Path(argv[-1]).read_text())
        return GOOD

    def _enrol(self, argv: Sequence[str], env: dict[str, str]) -> Finished:
        if "--wipe-slot=tpm2" in argv:
            self.seals.clear()
            return GOOD
        assert env["PASSWORD"] in self.keys
        assert "--tpm2-pcrs=7" in argv
        assert "--tpm2-public-key-pcrs=11" in argv
        public = next(one for one in argv if one.startswith("--tpm2-public-key="))
        self.seals.append(public.partition("=")[2])
        return GOOD


@pytest.fixture
def luks(monkeypatch: pytest.MonkeyPatch) -> Luks:
    made = Luks()
    monkeypatch.setattr(process, "run", made.run)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the root of a node whose encrypted /var is open."""
    for folder in ("run/imgnode", "run/systemd", "var/lib/imgnode"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run/imgnode/var-device").write_text(f"{DEVICE}\n")
    (tmp_path / "run/systemd/tpm2-pcr-public-key.pem").write_text("public\n")
    return tmp_path


def shut(root: Path) -> None:
    """Take /var away: what is there is in memory."""
    (root / "run/imgnode/var-degraded").write_text(f"{DEVICE} is encrypted\n")


def test_a_key_is_long_and_easy_to_type() -> None:
    one = sealed.new_key()
    assert re.fullmatch(r"([cbdefghijklnrtuv]{8}-){7}[cbdefghijklnrtuv]{8}", one)
    assert one != sealed.new_key()


def test_var_gets_one_recovery_key(root: Path, luks: Luks) -> None:
    before = os.umask(0o077)  # of the unit
    assert sealed.keep(root)
    os.umask(before)
    key = sealed.recovery_key(root)
    assert luks.keys == [key]
    assert (root / FOLDER / "recovery-key").stat().st_mode & 0o777 == 0o600
    assert (root / FOLDER).stat().st_mode & 0o777 == 0o755
    assert not sealed.keep(root)
    assert luks.keys == [key]


def test_a_power_cut_at_any_time_leaves_a_key_that_is_known(root: Path, luks: Luks) -> None:
    folder = root / FOLDER
    folder.mkdir()
    (folder / "recovery-key.next").write_text("written, and not added")
    assert sealed.keep(root)
    assert luks.keys == [sealed.recovery_key(root)]
    (folder / "recovery-key").rename(folder / "recovery-key.next")  # added, and not yet its name
    assert sealed.keep(root)
    assert luks.keys == [sealed.recovery_key(root)]


def test_a_key_that_the_partition_does_not_take_is_not_called_one(root: Path, luks: Luks) -> None:
    luks.fails = {"luksAddKey"}
    with pytest.raises(SealError, match=r"/dev/vda6 takes no recovery key: no way"):
        sealed.keep(root)
    with pytest.raises(SealError, match="there is no recovery key"):
        sealed.recovery_key(root)


def test_another_key_makes_the_old_one_void(root: Path, luks: Luks) -> None:
    sealed.keep(root)
    sealed.note_fetched(root)
    old = sealed.recovery_key(root)
    sealed.renew(root)
    assert luks.keys == [sealed.recovery_key(root)] != [old]
    assert not (root / FOLDER / "fetched").exists()


def test_what_is_not_open_gets_no_key(root: Path, luks: Luks) -> None:
    shut(root)
    for action in (sealed.keep, sealed.renew):
        with pytest.raises(SealError, match="not on an encrypted partition"):
            action(root)
    assert luks.seen == []


def test_it_is_sealed_anew_by_the_recovery_key(root: Path, luks: Luks) -> None:
    sealed.keep(root)
    key = sealed.recovery_key(root)
    shut(root)
    with pytest.raises(SealError, match=r"that key does not open /dev/vda6"):
        sealed.seal("another", root=root)
    assert luks.seals == ["/old.pem"]
    assert sealed.seal(key, root=root) == DEVICE
    assert luks.seals == [f"{root}/run/systemd/tpm2-pcr-public-key.pem"]


def test_another_key_is_let_in_besides(root: Path, luks: Luks) -> None:
    sealed.keep(root)
    new = root / "new.pem"
    with pytest.raises(SealError, match=r"new\.pem: there is no such public key"):
        sealed.seal(sealed.recovery_key(root), new, root)
    new.write_text("new\n")
    sealed.seal(sealed.recovery_key(root), new, root)
    assert luks.seals == ["/old.pem", str(new)]


def test_where_the_tpm_takes_nothing_that_is_told(root: Path, luks: Luks) -> None:
    sealed.keep(root)
    luks.fails = {DEVICE}
    with pytest.raises(SealError, match="only the recovery key opens it: no way"):
        sealed.seal(sealed.recovery_key(root), root=root)


def test_a_node_without_one_says_nothing(tmp_path: Path) -> None:
    assert sealed.read(tmp_path) is None
    assert sealed.lines(None) == []
    with pytest.raises(SealError, match="there is no encrypted /var"):
        sealed.seal("key", root=tmp_path)


def test_status_asks_for_somebody_to_take_the_key(root: Path) -> None:
    found = sealed.read(root)
    assert found == Sealed(DEVICE, opened=True, fetched=False)
    assert "nobody has its recovery key yet" in sealed.lines(found)[0]
    sealed.note_fetched(root)
    assert sealed.lines(sealed.read(root)) == ["var      encrypted, opened by the TPM"]
    shut(root)
    assert sealed.lines(sealed.read(root)) == []


def test_the_command(
    root: Path, luks: Luks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(var, "_ROOT", root)
    main(["var", "keep"])
    main(["var", "recovery-key", "--new"])
    key = luks.keys[0]
    assert capsys.readouterr().out.splitlines()[-1] == key
    assert sealed.read(root) == Sealed(DEVICE, opened=True, fetched=True)
    main(["var", "seal"])
    shut(root)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key}\n"))
    main(["var", "seal"])
    assert "comes back with the next boot" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
    with pytest.raises(SystemExit, match="imgnode: that key does not open /dev/vda6 .hint: "):
        main(["var", "seal"])

"""The private APT: its configuration, and its complaints in words a user can act on."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.lock import aptenv
from builder.lock.aptenv import AptEnv, prepare
from builder.model.site import Site
from tests.unit.fakes import FakeRunner, site

KEY = "A" * 40
MIRROR = "https://mirror.example/debian"


def prepared(tmp_path: Path, where: Site) -> AptEnv:
    (tmp_path / "sites").mkdir(exist_ok=True)
    (tmp_path / "sites/site.gpg").write_text("the key")
    return prepare(FakeRunner(), where, tmp_path / "sites", tmp_path / "apt")


def archive(**changes: object) -> dict[str, object]:
    return {"uri": MIRROR, "suites": ["bookworm"], "keyring": "site.gpg", **changes}


def sources(tmp_path: Path, **changes: object) -> list[str]:
    prepared(tmp_path, site(archives=[archive(**changes)]))
    return (tmp_path / "apt/etc/sources.list").read_text().splitlines()


def test_one_source_for_each_suite_signed_by_the_sites_key(tmp_path: Path) -> None:
    env = prepared(tmp_path, site())
    key = tmp_path / "apt/etc/keys/0.gpg"
    assert (tmp_path / "apt/etc/sources.list").read_text().splitlines() == [
        f"deb [signed-by={key} arch=amd64] {MIRROR} {suite} main non-free"
        for suite in ("bookworm", "bookworm-updates")
    ]
    assert key.read_text() == "the key"
    assert env.bases == (MIRROR,)


def test_pinned_keys_stand_for_their_subkeys(tmp_path: Path) -> None:
    (line,) = sources(tmp_path, fingerprints=[KEY, "B" * 40])
    assert f"/0.gpg,{KEY},{'B' * 40} arch" in line


def test_a_flat_archive_has_no_components(tmp_path: Path) -> None:
    (line,) = sources(tmp_path, suites=["/"], components=[])
    assert line.endswith(f"] {MIRROR} /")


def test_a_snapshot_may_be_out_of_date_and_nothing_else_may(tmp_path: Path) -> None:
    (line,) = sources(tmp_path, check_valid_until=False)
    assert "check-valid-until=no]" in line


def test_out_of_date_archives_are_refused_otherwise(tmp_path: Path) -> None:
    (line,) = sources(tmp_path)
    assert "valid-until" not in line


def test_two_archives_keep_their_keys_apart(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/other.asc").write_text("the other key")
    prepared(tmp_path, site(archives=[archive(), archive(keyring="other.asc")]))
    assert (tmp_path / "apt/etc/keys/0.gpg").read_text() == "the key"
    assert (tmp_path / "apt/etc/keys/1.asc").read_text() == "the other key"


def test_a_keyring_of_the_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aptenv, "_SYSTEM_KEYRINGS", tmp_path / "keyrings")
    (tmp_path / "keyrings").mkdir()
    (tmp_path / "keyrings/host.gpg").write_text("the host's")
    prepared(tmp_path, site(archives=[archive(keyring="host.gpg")]))
    assert (tmp_path / "apt/etc/keys/0.gpg").read_text() == "the host's"


def test_a_missing_keyring_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"keyring none\.gpg is neither beside") as caught:
        prepared(tmp_path, site(archives=[archive(keyring="none.gpg")]))
    assert MIRROR in caught.value.what
    assert caught.value.hint is not None


def test_pins_become_preferences(tmp_path: Path) -> None:
    pins = [{"packages": "src:systemd", "release": "n=bookworm-backports"}]
    prepared(tmp_path, site(pins=pins))
    assert (tmp_path / "apt/etc/preferences").read_text() == (
        "Package: src:systemd\nPin: release n=bookworm-backports\nPin-Priority: 990\n"
    )


def test_a_pin_holds_a_version(tmp_path: Path) -> None:
    pins = [{"packages": "nvidia-*", "version": "580.*"}]
    prepared(tmp_path, site(pins=pins))
    assert (tmp_path / "apt/etc/preferences").read_text() == (
        "Package: nvidia-*\nPin: version 580.*\nPin-Priority: 990\n"
    )


def test_the_hosts_apt_has_no_say(tmp_path: Path) -> None:
    prepared(tmp_path, site())
    config = (tmp_path / "apt/apt.conf").read_text()
    assert f'Dir "{tmp_path}/apt";' in config
    assert f'Dir::State::status "{tmp_path}/apt/status";' in config
    assert 'Dir::Etc::trustedparts "none";' in config
    assert 'APT::Install-Recommends "false";' in config
    assert "Proxy" not in config
    assert (tmp_path / "apt/status").read_text() == ""


def test_proxies(tmp_path: Path) -> None:
    prepared(tmp_path, site(proxy={"https": "http://proxy:3128"}))
    config = (tmp_path / "apt/apt.conf").read_text()
    assert 'Acquire::https::Proxy "http://proxy:3128";' in config
    assert "Acquire::http::Proxy" not in config


def test_programs_run_with_this_configuration_only(tmp_path: Path) -> None:
    runner = FakeRunner()
    AptEnv(tmp_path, (), runner).run("apt-get", "update")
    assert runner.calls == [["apt-get", "update"]]
    assert runner.envs[0]["APT_CONFIG"] == str(tmp_path / "apt.conf")


# What APT 2.6.1 of Debian 12 really said, recorded on 2026-11-23 against a small archive that
# was signed by another key, changed after it was signed, out of date, and so on.
AT = "http://127.0.0.1:39193"
DAMAGED = f"""\
E: Failed to fetch {AT}/dists/x/main/binary-amd64/Packages  Hash Sum mismatch
   Hashes of expected file:
    - Filesize:1354 [weak]
   Release file created at: Mon, 23 Nov 2026 18:58:22 +0000
E: Some index files failed to download. They have been ignored, or old ones used instead.
"""
UNMET = """\
Reading package lists...
The following packages have unmet dependencies:
 beta : Depends: gamma but it is not installable
        Depends: delta (>= 2) but 1.0 is to be installed
E: Unable to correct problems, you have held broken packages.
"""
SPOKEN = {
    "missing suite": (
        f"E: The repository '{AT} nosuch Release' does not have a Release file.",
        "no such suite",
    ),
    "out of date": (
        f"E: Release file for {AT}/dists/x/InRelease is expired (invalid since 1787d 18h 58min "
        "22s). Updates for this repository will not be applied.",
        "check the clock",
    ),
    "unsigned": (f"E: The repository '{AT} x Release' is not signed.", "not signed by a key"),
    "another key": (
        f"W: GPG error: {AT} x InRelease: The following signatures couldn't be verified because "
        "the public key is not available: NO_PUBKEY 2348688A1062315F\n"
        f"E: The repository '{AT} x InRelease' is not signed.",
        "not signed by a key",
    ),
    "tampered": (
        f"W: GPG error: {AT} x InRelease: The following signatures were invalid: BADSIG "
        "6032578F7D225F0E good@example.org\n"
        f"E: The repository '{AT} x InRelease' is not signed.",
        "do not trust this mirror",
    ),
    "a login page": (
        f"E: Failed to fetch {AT}/dists/x/InRelease  Clearsigned file isn't valid, got 'NOSPLIT' "
        "(does the network require authentication?)\n"
        f"E: The repository '{AT} x InRelease' is not signed.",
        "do not trust this mirror",
    ),
    "damaged": (DAMAGED, "being changed or is damaged"),
    "refused": (
        f"E: Failed to fetch {AT}/dists/x/InRelease  Could not connect to 127.0.0.1:9 "
        "(127.0.0.1). - connect (111: Connection refused)",
        "check the network",
    ),
    "no such host": (
        "E: Failed to fetch http://mirror.invalid/debian/dists/x/InRelease  Could not resolve "
        "'mirror.invalid'",
        "check the network",
    ),
    "gone": (
        f"Err:1 {AT}/pool/zzz.deb\n  404  File not found [IP: 127.0.0.1 39193]\n"
        f"E: Failed to fetch {AT}/pool/zzz.deb  404  File not found [IP: 127.0.0.1 39193]\n"
        "E: Download Failed",
        "check the network",
    ),
    "no package": ("E: Unable to locate package nonesuch", "check the name"),
    "unmet": (UNMET, "two packages exclude each other"),
}


def explained(tmp_path: Path, output: str) -> UserError:
    def fail(_: list[str]) -> str:
        raise CommandError("apt-get", "exit status 100", output)

    with pytest.raises(UserError) as caught:
        AptEnv(tmp_path, (), FakeRunner(fail)).run("apt-get", "update")
    return caught.value


@pytest.mark.parametrize(("output", "hint"), SPOKEN.values(), ids=SPOKEN)
def test_every_complaint_has_its_hint(tmp_path: Path, output: str, hint: str) -> None:
    error = explained(tmp_path, output)
    assert error.hint is not None
    assert hint in error.hint
    last = [line for line in output.splitlines() if line.startswith("E:")][-1]
    assert last in error.what


def test_the_packages_that_do_not_fit_are_named(tmp_path: Path) -> None:
    shown = explained(tmp_path, UNMET).what
    assert " beta : Depends: gamma but it is not installable" in shown
    assert "Depends: delta (>= 2)" in shown
    assert "Reading package lists" not in shown


def test_a_complaint_is_told_once(tmp_path: Path) -> None:
    assert explained(tmp_path, "E: odd\nnoise\nE: odd\n").what == "E: odd"


def test_an_unknown_failure_is_told_as_it_is(tmp_path: Path) -> None:
    error = explained(tmp_path, "segfault")
    assert "exit status 100" in error.what
    assert "segfault" in error.what
    assert error.hint is None

"""The tools tree of mkosi: mkosi 24.3 and systemd 254 from backports, as Debian ships them."""

from __future__ import annotations

from pathlib import Path

from bench.place import Place, say
from builder.core.errors import UserError
from builder.core.files import remove_tree
from builder.lock.mirror import base_addresses

_PACKAGES = (
    *("apt", "bubblewrap", "ca-certificates", "cpio", "cryptsetup-bin", "debian-archive-keyring"),
    *("dosfstools", "dpkg", "e2fsprogs", "erofs-utils", "kmod", "mkosi", "mount", "mtools"),
    *("python3-pefile", "squashfs-tools", "systemd", "systemd-boot", "systemd-boot-efi", "udev"),
    *("uidmap", "usr-is-merged", "xz-utils", "zstd"),
)
_VERSION = "24.3"
# By codename: `a=bookworm-backports` matches nothing, without a word.
_PIN = "Package: {}\nPin: release n=bookworm-backports\nPin-Priority: 990\n"
# mkosi's own initrd asks for these where a release has them. bookworm-backports only
# mentions the first, so that APT fails; bookworm's systemd contains both.
_NOT_IN_BOOKWORM = ("?exact-name(systemd-cryptsetup)", "?exact-name(systemd-repart)")
_INITRD_CONF = "mkosi/resources/mkosi-initrd/mkosi.conf.d/10-debian-ubuntu/mkosi.conf"


def sources(place: Place) -> str:
    """Return the site's archives as a sources.list(5), by the addresses imgbuild uses."""
    lines = []
    archives = place.spec.site.archives
    for archive, base in zip(archives, base_addresses(place.runner, place.spec.site), strict=True):
        keyring = f"/usr/share/keyrings/{Path(archive.keyring).name}"
        components = " ".join(archive.components)
        lines += [f"deb [signed-by={keyring}] {base} {s} {components}\n" for s in archive.suites]
    return "".join(lines)


def pins(place: Place) -> str:
    """Return the site's pins, which are the same for both builders."""
    return "\n".join(
        f"Package: {pin.packages}\nPin: release {pin.release}\nPin-Priority: {pin.priority}\n"
        for pin in place.spec.site.pins
    )


def ensure_tree(place: Place) -> None:
    """Make the tools tree where it is missing; raises UserError without the right mkosi."""
    if not place.tools.is_dir():
        say("making the tools tree of mkosi")
        _make(place)
    told = place.runner.run(["chroot", place.tools, "mkosi", "--version"], env={"HOME": "/root"})
    if _VERSION not in told.stdout:
        raise UserError(
            f"{place.tools}: holds {told.stdout.strip()}, not mkosi {_VERSION}",
            hint="remove the folder and run again; if it stays so, backports have moved on",
        )


def _make(place: Place) -> None:
    part = place.tools.with_name("tools.part")
    remove_tree(part)
    part.parent.mkdir(parents=True, exist_ok=True)
    preferences = _PIN.format("src:systemd src:mkosi")
    hook = f'mkdir -p "$1/etc/apt"; printf "%s" "{preferences}" > "$1/etc/apt/preferences"'
    try:
        place.runner.run(
            [
                *("mmdebstrap", "--mode=root", "--variant=minbase", "--quiet"),
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                '--aptopt=APT::Install-Recommends "false"',
                f"--setup-hook={hook}",
                f"--include={','.join(_PACKAGES)}",
                *("", str(part), "-"),
            ],
            stdin=sources(place),
        )
        _mend_initrd(part)
        part.rename(place.tools)
    except BaseException:
        remove_tree(part)
        raise


def _mend_initrd(tree: Path) -> None:
    conf = tree / "usr/lib/python3/dist-packages" / _INITRD_CONF
    lines = conf.read_text().splitlines(keepends=True)
    conf.write_text("".join(line for line in lines if line.strip() not in _NOT_IN_BOOKWORM))

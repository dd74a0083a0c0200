"""mkosi's configuration: the packages, kernel words and service settings of our own image.

What an image builder decides itself is left to mkosi: initrd, presets' application,
writable places. Where mkosi offers a choice, the faster one is taken.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.place import Place
from bench.tree import pins, sources
from builder.core.files import remove_tree
from builder.model.artifacts import Identity
from builder.rootfs.overlay import lay_overlay

_EROFS_LEVEL = 6  # as builder/rootfs/seal.py
_CONF = """\
[Distribution]
Distribution=debian
Release=bookworm
# Package indexes count as downloads, as imgbuild's lock and packages do.
CacheOnly={cache_only}

[Output]
Format=disk
Output=image
ImageId=mkosi-bench
ImageVersion=1
OutputDirectory=out
CacheDirectory=cache
PackageCacheDirectory=packages
WorkspaceDirectory=work
ManifestFormat=

[Content]
BuildSources=
Bootable=yes
Bootloader=systemd-boot
WithDocs=no
WithRecommends=no
Autologin=no
RootPassword=hashed:!*
Locale=C.UTF-8
KernelCommandLine={cmdline}
Environment=SYSTEMD_REPART_MKFS_OPTIONS_EROFS="-zlz4hc,{level}"
RemoveFiles=/etc/ssh/ssh_host_*
KernelModulesInitrdExclude=.*
KernelModulesInitrdInclude={modules}
Packages={packages}
"""
_ESP = """\
[Partition]
Type=esp
Format=vfat
CopyFiles=/boot:/
CopyFiles=/efi:/
SizeMinBytes={size}
SizeMaxBytes={size}
"""
_ROOT = """\
[Partition]
Type=root
Format=erofs
CopyFiles=/
ExcludeFiles=/var/
ExcludeFiles=/boot/
ExcludeFiles=/efi/
Verity=data
VerityMatchKey=root
Minimize=best
"""
_VERITY = "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n"
_SIZED = "[Partition]\nType={type}\nLabel={label}\nFormat={format}\n"
_LIMITS = "SizeMinBytes={size}\nSizeMaxBytes={size}\n"
# The volatile overlay of systemd makes /etc writable, as ours is; /var persists in both.
_WORDS = ("panic=10", "loglevel=4", "systemd.volatile=overlay", "systemd.firstboot=off")
_FSTAB = "PARTLABEL=var /var ext4 nosuid,nodev,relatime 0 2\n"
# cloud-init itself reads the seed, which our image does by a unit of its own.
_SEED = "datasource: {NoCloud: {fs_label: CIDATA}}\n"
# A root that is never changed need not be brought up to date at each boot.
_FINALIZE = '#!/bin/sh\ntouch "$BUILDROOT/etc/.updated"\n'


def write_recipe(place: Place, *, indexes_cached: bool) -> None:
    """Write mkosi.conf and everything beside it into mkosi's folder."""
    for name in ("repart", "extra", "pkgmngr"):
        remove_tree(place.mkosi / f"mkosi.{name}")
    for name in ("out", "cache", "packages", "work"):
        (place.mkosi / name).mkdir(parents=True, exist_ok=True)
    spec = place.spec
    modules = [f"/{name}.ko" for name in (*spec.initrd.modules, *spec.initrd.optional_modules)]
    text = _CONF.format(
        cache_only="metadata" if indexes_cached else "auto",
        cmdline=" ".join((*spec.profile.kernel.cmdline, *_WORDS)),
        level=_EROFS_LEVEL,
        modules=_lines(modules),
        packages=_lines(spec.packages),
    )
    (place.mkosi / "mkosi.conf").write_text(text)
    finalize = place.mkosi / "mkosi.finalize"
    finalize.write_text(_FINALIZE)
    finalize.chmod(0o755)
    _write_repart(place)
    _write_extra(place)
    apt = place.mkosi / "mkosi.pkgmngr/etc/apt"
    (apt / "sources.list.d").mkdir(parents=True)
    (apt / "sources.list.d/mkosi.sources").touch()  # instead of mkosi's own default mirrors
    (apt / "sources.list").write_text(sources(place))
    (apt / "preferences").write_text(pins(place))


def _lines(words: tuple[str, ...] | list[str]) -> str:
    return "".join(f"\n    {word}" for word in words)


def _write_repart(place: Place) -> None:
    disk = place.spec.profile.disk
    folder = place.mkosi / "mkosi.repart"
    folder.mkdir()
    var = _SIZED.format(type="var", label="var", format="ext4") + "CopyFiles=/var:/\n"
    seed = _SIZED.format(type="linux-generic", label="cidata", format="vfat")
    definitions = {
        "10-esp": _ESP.format(size=int(disk.esp)),
        "20-root": _ROOT,
        "21-verity": _VERITY,
        "40-cidata": seed + _LIMITS.format(size=int(disk.cidata)),
        "50-var": var + _LIMITS.format(size=int(disk.var_min)),
    }
    for name, text in definitions.items():
        (folder / f"{name}.conf").write_text(text)


def _write_extra(place: Place) -> None:
    """Lay our own settings of the same packages: cloud-init, network, SSH, journal, presets."""
    extra = place.mkosi / "mkosi.extra"
    identity = Identity(image_id="mkosi-bench", version="1", epoch=0)
    values = {"profile": place.spec.profile, "site": place.spec.site, "identity": identity}
    for name in place.spec.profile.overlays:
        if name != "boot":
            lay_overlay(place.project.overlays / name, extra, values)
    # How our image changes units and generators is our own work, not a setting of packages.
    remove_tree(extra / "etc/systemd")
    (extra / "etc/fstab").write_text(_FSTAB)
    (extra / "etc/cloud/cloud.cfg.d/60_bench.cfg").write_text(_SEED)
    _copy_units(place.project.units, extra / "usr/lib/systemd")


def _copy_units(units: Path, target: Path) -> None:
    """Copy units and presets, without those that only our own root and /var need."""
    ours = shutil.ignore_patterns("imgnode*")
    shutil.copytree(
        units / "system", target / "system", symlinks=True, ignore=ours, dirs_exist_ok=True
    )
    shutil.copytree(units / "system-preset", target / "system-preset")

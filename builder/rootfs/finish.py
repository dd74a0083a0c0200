"""The last changes to the root tree before it is sealed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.sandbox import Sandbox
from builder.model.artifacts import Identity
from builder.model.container import Payload
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.spec import Spec
from builder.rootfs.clean import clean
from builder.rootfs.gpu import lay_driver
from builder.rootfs.harden import check_forbidden, settle_rights
from builder.rootfs.overlay import lay_imgnode, lay_overlay, lay_units
from builder.rootfs.releasekeys import lay_release_keys
from builder.rootfs.rules import check_rules
from builder.rootfs.secrets import check_secrets
from builder.rootfs.vartree import declare_var
from builder.rootfs.wheels import lay_wheels

_COMPILE = """
import compileall, sys
mode = compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir("/usr/lib/python3/dist-packages/imgnode", quiet=1, invalidation_mode=mode)
for path in sys.argv[1:]:
    compileall.compile_file(path, quiet=1, invalidation_mode=mode)
"""
_MONITORING = "monitoring"  # the overlay that has the exporters


def finish(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    lock: Lock,
    identity: Identity,
    payload: Payload,
    driver: Driver | None,
    root: Path,
) -> None:
    """Lay everything of the project over the installed `root` and clean it."""
    project = context.project
    values = {"profile": spec.profile, "site": spec.site, "identity": identity}
    clean(root, identity.epoch)
    for name in spec.overlays:
        lay_overlay(project.overlays / name, root, values)
    lay_units(project, root)
    lay_imgnode(project, root)
    lay_release_keys(context, spec.site, root)
    sources = lay_wheels(context, lock, root)
    if driver:
        lay_driver(tools, driver, root)
    check_forbidden(root)
    settle_rights(root, project.image / "setuid.conf")
    check_rules(context, root)
    check_secrets(root)
    _identify(context, spec, identity, payload, driver, root)
    _set_timezone(spec.profile.node.timezone, root)
    _enable_units(tools, root)
    context.runner.run(["chroot", root, "/usr/bin/python3", "-c", _COMPILE, *sources])
    declare_var(root)
    # systemd-update-done.service(8): /etc is as new as /usr, nothing is to be brought up to date.
    updated = root / "etc/.updated"
    updated.touch()
    os.utime(updated, (identity.epoch, identity.epoch))


def _identify(
    context: Context,
    spec: Spec,
    identity: Identity,
    payload: Payload,
    driver: Driver | None,
    root: Path,
) -> None:
    """Write os-release(5) and what the node's own programs need to know of the image."""
    release = root / "usr/lib/os-release"
    release.write_text(
        f'{release.read_text()}IMAGE_ID="{identity.image_id}"\nIMAGE_VERSION="{identity.version}"\n'
    )
    own = root / "usr/lib/imgnode"
    own.mkdir(exist_ok=True)
    facts = {
        **identity.model_dump(),
        "profile": spec.profile_name,
        "site": spec.site_name,
        "alerts": spec.site.alerts.model_dump(),
        "var_min": spec.profile.disk.var_min,
        "gpus": spec.profile.gpu.count if spec.profile.gpu else 0,
        "gpu": spec.profile.gpu.model_dump(mode="json") if spec.profile.gpu else None,
        "gpu_runtime": spec.site.gpu.runtime,
        "driver_version": driver.facts.version if driver else None,
        "serve": spec.profile.serve.model_dump(mode="json"),
        "releases": spec.site.releases,
        "maintenance": spec.site.maintenance.model_dump(mode="json"),
        "updates": spec.site.updates.model_dump(mode="json"),
        "models": spec.site.models,
        "monitoring": _monitoring(spec),
    }
    (own / "image.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    if payload.files:
        (own / "payload.json").write_text(payload.model_dump_json(indent=1) + "\n")
    persist = context.project.image / "etc-persist.conf"
    (own / "etc-persist.conf").write_text(persist.read_text())


def _monitoring(spec: Spec) -> dict[str, object] | None:
    """Return who may ask the exporters, and at which ports; None for an image without them."""
    if _MONITORING not in spec.overlays:
        return None
    site = spec.site.monitoring
    ports = {"node": site.node_port, "imgnode": site.imgnode_port}
    return {**site.model_dump(), "ports": ports}


def _set_timezone(name: str, root: Path) -> None:
    """Link localtime(5); raises UserError when the image's tz database lacks the zone."""
    zone = root / "usr/share/zoneinfo" / name
    if not zone.is_file():
        raise UserError(
            f"profile: node.timezone: the tz database has no zone {name}",
            hint="names are like Etc/UTC or Europe/Berlin",
        )
    link = root / "etc/localtime"
    link.unlink(missing_ok=True)
    link.symlink_to(f"../usr/share/zoneinfo/{name}")
    (root / "etc/timezone").write_text(f"{name}\n")


def _enable_units(tools: Sandbox, root: Path) -> None:
    """Enable exactly what the presets name (systemd.preset(5))."""
    tools.run(
        ["systemctl", "--root", root, "preset-all", "--preset-mode=full", "--quiet"], write=[root]
    )

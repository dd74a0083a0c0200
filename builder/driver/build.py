"""The GPU driver of an image: checked, compiled, signed, ready to be laid over the root."""

from __future__ import annotations

from builder.core.context import Context
from builder.core.events import Note
from builder.core.sandbox import Sandbox
from builder.driver.cuda import check_cuda, need_of_image, need_of_lock
from builder.driver.devices import check_devices
from builder.driver.locked import check_locked, locked_driver, locked_release, upstream
from builder.driver.modules import build_modules
from builder.driver.tree import build_tree
from builder.model.container import Payload
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.spec import Spec


def check_lock(context: Context, spec: Spec, lock: Lock) -> None:
    """Raise UserError for a lock whose driver cannot serve the profile, before any work."""
    if spec.driver is None or spec.profile.gpu is None:
        return
    check_locked(spec, lock)
    check_cuda(context, spec, upstream(locked_driver(spec, lock).version), need_of_lock(lock))


def warn_lacking(context: Context, spec: Spec) -> None:
    """Tell what the profile's board needs and the site's driver does not have."""
    if spec.driver is None or spec.profile.gpu is None:
        return
    if spec.profile.gpu.fabric_manager and not spec.driver.fabric_manager:
        text = (
            f"site {spec.site_name} has no fabric manager, without which CUDA does not start on "
            f"the NVSwitches of {spec.profile.gpu.model}: site `vendor` has it"
        )
        context.emit(Note("warning", text))


def build_driver(context: Context, tools: Sandbox, spec: Spec, lock: Lock) -> Driver | None:
    """Return the driver's modules for the locked kernel; None where the profile has no GPU.

    Packages of the lock must be in the cache. Raises UserError when the driver does not
    know the profile's GPUs, does not compile, or cannot be signed.
    """
    if spec.driver is None or spec.profile.gpu is None:
        return None
    check_devices(context, tools, spec, lock)
    made, key = build_modules(context, tools, lock)
    kind, signing = spec.profile.gpu.driver.modules, spec.site.module_key
    release = locked_release(lock)
    tree, key, facts = build_tree(context, tools, made, key, release, kind, signing)
    return Driver(tree=tree, key=key, facts=facts)


def check_container(context: Context, spec: Spec, driver: Driver | None, payload: Payload) -> None:
    """Raise UserError when the driver is too old for what the finished container says it needs."""
    if driver is not None and payload.container is not None:
        check_cuda(context, spec, driver.facts.version, need_of_image(payload.container.config))

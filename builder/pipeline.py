"""The one-way flow of a build: lock → tools → base → root and initrd → files → output folder.

Rooms do not know each other; here they are joined.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from builder import __version__
from builder.containers.payload import build_payload
from builder.containers.remote import fetch_image
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import copy_sparse, link_or_copy, remove_tree, scratch, write_atomic
from builder.core.hashing import sha256_file, sha256_tree, sha256_value
from builder.core.mounts import enter_private_mounts
from builder.core.offline import leave_network
from builder.core.sandbox import Sandbox
from builder.disk.gpt import lay_boot_loader
from builder.disk.image import MANIFEST, build_files
from builder.disk.measure import SECTION, PcrSigning, check_pcr_signing, pcr_signing
from builder.disk.secureboot import BootSigning, boot_signing, check_boot_signing
from builder.disk.uki import Kernel, build_installer_uki
from builder.driver.build import build_driver, check_container, check_lock, warn_lacking
from builder.driver.fits import check_fits
from builder.initrd.build import build_initrd
from builder.initrd.installer import build_installer_initrd
from builder.lock.fetch import fetch
from builder.lock.store import lock_text, names_password
from builder.lock.wheels import fetch_wheels
from builder.model.artifacts import LOCK, PROVENANCE, Identity, Manifest, RootImage
from builder.model.container import Payload
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.spec import Spec
from builder.rootfs.base import build_base
from builder.rootfs.releasekeys import check_release_keys, lay_release_keys, release_key_files
from builder.rootfs.seal import build_root, kernel_file
from builder.sbom.provenance import provenance_json
from builder.tools.tree import build_tools
from imgnode.install.run import LOADER as ESP

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
LAYERS = "layers"  # in the output folder, as on a release server
_DEBIAN = "debian-archive-keyring.gpg"
_LABEL_MAX = 36  # characters of a GPT partition name


@dataclass(frozen=True)
class Built:
    """A finished image; `changed` is false when the output folder already held it."""

    folder: Path
    manifest: Manifest
    changed: bool


def identify(context: Context, spec: Spec, lock: Lock, version: str | None) -> Identity:
    """Return the identity of what will be built.

    Without `version` it is the lock's day and a digest of all that shapes the image, so
    that two different images never share a name. Raises UserError for a version that
    cannot name a partition.
    """
    if version is None:
        day = time.strftime("%Y%m%d", time.gmtime(lock.epoch))
        version = f"{day}-{_shape(context, spec, lock)[:8]}"
    identity = Identity(image_id=spec.image_id, version=version, epoch=lock.epoch)
    if not _VERSION.fullmatch(version):
        raise UserError(
            f"version {version!r} has characters that file names of an update cannot have",
            hint="use letters, digits, dots and hyphens, such as 2026.11.1",
        )
    if len(identity.stem) > _LABEL_MAX:
        raise UserError(
            f"{identity.stem}: {len(identity.stem)} characters, "
            f"a partition name has at most {_LABEL_MAX}",
            hint="use a shorter version",
        )
    return identity


def build_image(
    context: Context,
    spec: Spec,
    lock: Lock,
    identity: Identity,
    out: Path,
    *,
    carry_layers: bool = True,
    signatures: Mapping[str, Path] | None = None,
) -> Built:
    """Build the image and put its files into `out`, which appears complete or not at all.

    Without `carry_layers`, and where nodes encrypt `var`, the disk image names its layers but does
    not bring them along. With `signatures` it is built again: no network but for what the lock
    names, and what Secure Boot or a TPM asks for is attached, not signed.
    Raises UserError for everything the user or the build host can mend.
    """
    _check_out(out)
    signing, pcr = _prepare(context, spec, lock, signatures)
    tools = build_tools(context, lock)
    driver = build_driver(context, tools, spec, lock)
    base, base_key = build_base(context, tools, lock)
    if driver:
        check_fits(spec, lock, driver, base)
    made = build_payload(context, tools, spec, lock)
    check_container(context, spec, driver, made.payload)
    (root, root_key), (initrd, initrd_key) = _root_and_initrd(
        context, tools, spec, lock, identity, made.payload, driver, base, base_key
    )
    keys = {"base": base_key, "root": root_key, "initrd": initrd_key}
    keys |= {"driver": driver.key} if driver else {}
    layers = tuple(made.paths.values())
    folder = build_files(
        context,
        tools,
        spec,
        lock,
        identity,
        root,
        initrd,
        made.payload,
        driver,
        layers if carry_layers and not spec.profile.disk.encrypt_var else (),
        keys,
        signing,
        pcr,
    )
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    archives, inputs = debian_archives(spec, lock), sources(context, spec)
    said = provenance_json(manifest, lock, archives, inputs, __version__)
    texts = {PROVENANCE: said, **({} if names_password(lock) else {LOCK: lock_text(lock)})}
    return Built(out, manifest, _deliver(context, folder, layers, texts, out))


def _prepare(
    context: Context, spec: Spec, lock: Lock, signatures: Mapping[str, Path] | None
) -> tuple[BootSigning | None, PcrSigning | None]:
    """Check what the site names and fetch what the lock names; return how the image is signed."""
    check_release_keys(context, spec.site)
    signing = boot_signing(context.project.sites, spec.site)
    if signing:
        signing = replace(signing, signatures=signatures)
    check_boot_signing(context, spec, signing)
    pcr = pcr_signing(context.project.sites, spec.site)
    if pcr and signatures is not None:
        pcr = replace(pcr, made=signatures.get(SECTION))
    check_pcr_signing(context, spec, pcr)
    enter_private_mounts(context.runner)
    context.cache.sweep()
    check_lock(context, spec, lock)
    warn_lacking(context, spec)
    fetch(context, spec, lock)
    fetch_wheels(context, spec, lock)
    if signatures is not None:
        fetch_image(context, spec, lock)
        leave_network()
    return signing, pcr


def _root_and_initrd(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    lock: Lock,
    identity: Identity,
    payload: Payload,
    driver: Driver | None,
    base: Path,
    base_key: str,
) -> tuple[tuple[RootImage, str], tuple[Path, str]]:
    """Make both side by side; return each with its stage's key."""
    with ThreadPoolExecutor() as pool:
        try:
            root = pool.submit(
                build_root, context, tools, spec, lock, identity, payload, driver, base, base_key
            )
            initrd = pool.submit(build_initrd, context, tools, spec, lock, base)
            return root.result(), initrd.result()
        except BaseException:
            context.runner.close()
            raise


def build_installer(context: Context, spec: Spec, lock: Lock, order: str | None) -> Path:
    """Return the installer of a profile and a site as a UKI (docs/install.md).

    It believes the site's release keys alone; `order` is the address where it asks what to do,
    None: only on the medium that it was started from. Raises UserError.
    """
    if not spec.site.release_keys:
        fact = f"site {spec.site_name}: has no release_keys, so an installer could believe nobody"
        raise UserError(fact, hint="imgbuild keys new makes one; see docs/guide.md")
    check_release_keys(context, spec.site)
    signing = boot_signing(context.project.sites, spec.site)
    check_boot_signing(context, spec, signing)
    enter_private_mounts(context.runner)
    context.cache.sweep()
    fetch(context, spec, lock)
    tools = build_tools(context, lock)
    base, _ = build_base(context, tools, lock)
    keys = [sha256_file(path) for path in release_key_files(context.project.sites, spec.site)]

    def lay(root: Path) -> None:
        lay_release_keys(context, spec.site, root)
        lay_boot_loader(context, tools, root / ESP, lock.epoch, signing)

    laid = {
        "keys": keys,
        "esp": sha256_tree(context.project.image / "esp"),
        "secure_boot": signing.digests() if signing else [],
    }
    initrd, key = build_installer_initrd(context, tools, spec, lock, base, lay, laid)
    kernel = kernel_file(base)
    identity = Identity(image_id=f"{spec.image_id}-installer", version=key[:8], epoch=lock.epoch)
    return build_installer_uki(
        context,
        tools,
        spec,
        identity,
        Kernel(kernel, kernel.name.removeprefix("vmlinuz-")),
        initrd,
        key,
        order,
        lock.digest_inputs("tools"),
        signing,
    )


def debian_archives(spec: Spec, lock: Lock) -> frozenset[int]:
    """Return the lock's archives that Debian signs, by number."""
    signed = {one.uri for one in spec.site.archives if one.keyring == _DEBIAN}
    return frozenset(n for n, one in enumerate(lock.archives) if one.uri in signed)


def sources(context: Context, spec: Spec) -> dict[str, str]:
    """Return the digests of what an image is built from besides packages and wheels."""
    project = context.project
    rooms = (project.image, project.overlays, project.units, project.imgnode)
    keys = release_key_files(project.sites, spec.site)
    signing, pcr = boot_signing(project.sites, spec.site), pcr_signing(project.sites, spec.site)
    return {
        **({"pcr key": sha256_value(pcr.digests())} if pcr else {}),
        **({"secure boot": sha256_value(signing.digests())} if signing else {}),
        "builder": sha256_tree(Path(__file__).parent),
        "specification": sha256_value(spec.model_dump(mode="json", exclude={"origins"})),
        "release keys": sha256_value([sha256_file(path) for path in keys]),
        **{room.name: sha256_tree(room) for room in rooms},
    }


def _shape(context: Context, spec: Spec, lock: Lock) -> str:
    project = context.project
    rooms = (project.image, project.overlays, project.units, project.imgnode)
    resolved = spec.model_dump(mode="json", exclude={"origins"})
    keys = [sha256_file(path) for path in release_key_files(context.project.sites, spec.site)]
    signing = boot_signing(context.project.sites, spec.site)
    keys += signing.digests() if signing else []
    pcr = pcr_signing(context.project.sites, spec.site)
    keys += pcr.digests() if pcr else []
    trees = [sha256_tree(room) for room in rooms]
    return sha256_value([resolved, lock.model_dump(), trees, keys])


def _deliver(
    context: Context, made: Path, layers: Sequence[Path], texts: Mapping[str, str], out: Path
) -> bool:
    """Copy the image's files and its `layers` to `out`, and write `texts` beside them.

    Tells whether there was anything to do.
    """
    with (context.cache.root / "locks" / f"out-{sha256_value(str(out))}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds may have the same output folder
        if not context.cache.fresh and _holds(out, (made / MANIFEST).read_text()):
            for name in texts.keys() - {path.name for path in out.iterdir()}:
                write_atomic(out / name, texts[name], 0o444)
            return False
        with _appearing(out) as folder:
            for artifact in sorted(made.glob("[!.]*")):
                copy_sparse(context.runner, artifact, folder / artifact.name)
            for name, text in texts.items():
                write_atomic(folder / name, text, 0o444)
            for layer in layers:
                (folder / LAYERS).mkdir(exist_ok=True)
                link_or_copy(context.runner, layer, folder / LAYERS / layer.name)
    return True


def _holds(out: Path, manifest: str) -> bool:
    try:
        if (out / MANIFEST).read_text() != manifest:
            return False
        held = Manifest.model_validate_json(manifest)
        sizes = {held.disk.name: held.disk.bytes} | {a.name: a.bytes for a in held.artifacts}
        sizes |= {f"{LAYERS}/{file.name}": file.bytes for file in held.payload.files}
        return all((out / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False


def _check_out(out: Path) -> None:
    """Refuse an output folder with something else in it: it is replaced as a whole."""
    if not out.exists() or (out / MANIFEST).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UserError(
            f"{out}: is neither empty nor the folder of an image, and would be replaced",
            hint="name a folder that does not exist yet",
        )


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that takes its name only when all went well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    remove_tree(old)
    with scratch(folder):
        try:
            yield folder
            if out.exists():
                out.rename(old)
            folder.rename(out)
        finally:
            if old.exists() and not out.exists():
                old.rename(out)
            remove_tree(old)

"""The finished modules as a tree to be laid over the root: signed where the site has a key."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import clamp_times
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox
from builder.driver.modules import EPOCH, PLACE, SIGN_FILE
from builder.model.driver import DriverFacts, DriverModule, ModuleKind
from builder.model.site import ModuleKey

_FACTS = "facts.json"
_DIGEST = "sha512"  # what Debian signs its own modules with
_FIELD = re.compile(r"(?m)^(filename|name|version|vermagic|signer): +(.*)$")
_MAIN = "nvidia"


def build_tree(
    context: Context,
    tools: Sandbox,
    made: Path,
    key: str,
    release: str,
    kind: ModuleKind,
    signing: ModuleKey | None,
) -> tuple[Path, str, DriverFacts]:
    """Return the tree that holds the modules `made` by the stage `key`, its own key, its facts.

    Raises UserError when a key of `signing` is missing or does not sign.
    """
    pair = _pair(context, signing) if signing else None
    inputs = {
        "modules": key,
        "release": release,
        "kind": kind,
        "signing": [sha256_file(path) for path in pair] if pair else None,
        "modinfo": tools.digest("usr/bin/kmod"),
    }
    stage = Stage("driver-tree", inputs, Path(__file__))

    def make(folder: Path) -> None:
        place = folder / "tree/usr/lib/modules" / release / PLACE
        place.mkdir(parents=True)
        for module in sorted((made / "modules").iterdir()):
            shutil.copyfile(module, place / module.name)
            if pair:
                _sign(tools, made / SIGN_FILE, pair, place / module.name)
        facts = read_facts(tools, sorted(place.iterdir()), kind)
        (folder / _FACTS).write_text(facts.model_dump_json(indent=1) + "\n")
        clamp_times(folder / "tree", EPOCH)

    result = context.cache.get(stage, make)
    facts = DriverFacts.model_validate_json((result / _FACTS).read_text())
    return result / "tree", stage.key, facts


def read_facts(tools: Sandbox, modules: list[Path], kind: ModuleKind) -> DriverFacts:
    """Return what modinfo(8) says of module files; the version is that of `nvidia` itself."""
    found = [_module(tools, path) for path in modules]
    main = next((module for module in found if module.name == _MAIN), None)
    if main is None:
        names = ", ".join(module.name for module in found) or "none"
        raise UserError(
            f"the driver's packages make no module {_MAIN}; they make: {names}",
            hint="name the dkms package of NVIDIA's driver below modules in image/drivers/",
        )
    return DriverFacts(version=main.version, kind=kind, modules=tuple(found))


def _module(tools: Sandbox, path: Path) -> DriverModule:
    told = tools.run(["modinfo", path], read=[path.parent]).stdout
    fields = dict(_FIELD.findall(told))
    return DriverModule(
        name=fields.get("name", path.stem).replace("_", "-"),
        file=path.name,
        bytes=path.stat().st_size,
        version=fields.get("version", ""),
        kernel=fields.get("vermagic", "").partition(" ")[0],
        signer=fields.get("signer") or None,
    )


def _pair(context: Context, signing: ModuleKey) -> tuple[Path, Path]:
    """Return the files of key and certificate, which must be there."""
    paths = (context.project.sites / signing.key, context.project.sites / signing.certificate)
    for name, path in zip(("key", "certificate"), paths, strict=True):
        if not path.is_file():
            raise UserError(
                f"site: module_key.{name}: {path}: there is no such file",
                hint="the path is absolute, or relative to the site file",
            )
    return paths


def _sign(tools: Sandbox, program: Path, pair: tuple[Path, Path], module: Path) -> None:
    """Append a signature to a module, by the sign-file of the kernel itself."""
    if not program.is_file():
        raise UserError(
            "the kernel's headers bring no sign-file, so modules cannot be signed",
            hint="leave module_key out of the site, or take headers with linux-kbuild",
        )
    key, certificate = pair
    try:
        tools.run(
            [program, _DIGEST, key, certificate, module],
            write=[module.parent],
            read=[program.parent, key.parent, certificate.parent],
        )
    except UserError as error:
        raise UserError(
            f"site: module_key: {key} does not sign {module.name}\n{error.what}",
            hint="give a private key in PEM without a passphrase, and its own certificate",
        ) from None

"""Bills of materials and provenance of a small image, judged by the formats' own validators."""

from __future__ import annotations

import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.cli.sbom import check_fits
from builder.core.errors import UserError
from builder.model.artifacts import DOCUMENTS, InstalledPackage, Manifest
from builder.model.bill import Bill, Component
from builder.model.lock import Lock, LockedContainer, LockedPackage, LockedWheel
from builder.release.documents import fault
from builder.sbom.documents import write_bills
from builder.sbom.gather import gather
from builder.sbom.provenance import provenance_json
from tests.unit import fakes
from tests.unit.images import digest, manifest, package

STATUS = """Package: alpha
Status: install ok installed
Architecture: amd64
Version: 1:2.0-1
Maintainer: Alpha Maintainers <alpha@example.org>
Homepage: https://alpha.example.org
Depends: virtual, nowhere | libbeta (>= 1)
Description: the first
 and more

Package: libbeta
Status: install ok installed
Architecture: amd64
Version: 1:2.0-1
Provides: virtual
Source: beta
"""
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: nobody
License: GPL-2+ or Artistic

Files: odd/*
Copyright: nobody
License: our-own
 Do as you like.
"""
METADATA = "Metadata-Version: 2.1\nName: gamma\nVersion: 1.0\nLicense-Expression: mit\n\nText\n"
MODULES = "usr/lib/modules/6.1/kernel/tiny.ko"
SOURCES = {"builder": digest("7")}


def wheel() -> LockedWheel:
    return LockedWheel(
        name="gamma", version="1.0", file_name="gamma-1.0-py3-none-any.whl", sha256=digest("5")
    )


def locked() -> Lock:
    def deb(name: str, content: str, **more: Any) -> LockedPackage:  # noqa: ANN401
        return fakes.package(name, digest(content), trees=("image",), **more)

    made = fakes.lock(deb("alpha", "1"), deb("libbeta", "2"))
    return made.model_copy(
        update={"container": LockedContainer(source="recipe:tiny", wheels=(wheel(),))}
    )


def image(lock: Lock) -> Manifest:
    installed = tuple(
        InstalledPackage(name=one.name, version=one.version, arch=one.arch, sha256=one.sha256)
        for one in lock.packages
    )
    return manifest(packages=installed).model_copy(update={"epoch": lock.epoch})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Lay the tree of an image, and the cache beside it."""
    files = {
        "usr/lib/sysimage/dpkg/status": STATUS,
        "usr/lib/sysimage/dpkg/info/alpha.list": f"/.\n/{MODULES.removeprefix('usr/')}\n",
        "usr/share/doc/alpha/copyright": COPYRIGHT,
        "usr/share/doc/libbeta/copyright": "It is free, somehow.\n",
        MODULES: "\x7fELF\0license=GPL v2\0version=3\0",
        "usr/lib/firmware/chip.bin": "x",
    }
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder = tmp_path / "cache/wheels" / wheel().sha256
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / wheel().file_name, "w") as archive:
        archive.writestr("gamma-1.0.dist-info/METADATA", METADATA)
    return tmp_path / "root"


@pytest.fixture
def bill(root: Path) -> Bill:
    lock = locked()
    return gather(image(lock), lock, frozenset({0}), root, root.parent / "cache", "0.1")


def named(bill: Bill, name: str) -> Component:
    return next(one for one in bill.components if one.name == name)


def test_debian_packages(bill: Bill) -> None:
    alpha, beta = named(bill, "alpha"), named(bill, "libbeta")
    (own,) = bill.texts
    assert own.name == "our-own"
    assert own.text == "Do as you like."
    assert alpha.licence == f"(Artistic-1.0-Perl OR GPL-2.0-or-later) AND {own.ref}"
    assert alpha.purl == f"pkg:deb/debian/alpha@{alpha.version}?arch=amd64&distro=debian-12"
    assert alpha.needs == (beta.key,)
    assert (alpha.summary, alpha.sha256, alpha.part_of) == ("the first", digest("1"), ())
    assert beta.licence is None
    assert beta.notes["source"] == "beta"


def test_an_archive_of_somebody_else_has_no_debian_url(root: Path) -> None:
    lock = locked()
    bill = gather(image(lock), lock, frozenset(), root, root.parent / "cache", "0.1")
    assert named(bill, "alpha").purl is None


def test_wheels_layers_models_modules_firmware(bill: Bill) -> None:
    gamma, module = named(bill, "gamma"), named(bill, "tiny")
    assert (gamma.licence, gamma.purl) == ("MIT", "pkg:pypi/gamma@1.0")
    assert gamma.part_of == ("container",)
    assert (module.kind, module.version, module.part_of) == (
        "module",
        "3",
        (named(bill, "alpha").key,),
    )
    assert module.notes == {"path": f"/{MODULES}", "module-license": "GPL v2"}
    assert named(bill, "chip.bin").kind == "firmware"
    kinds = [one.kind for one in bill.components]
    assert (kinds.count("layer"), kinds.count("model"), kinds.count("container")) == (2, 1, 1)


def test_both_documents_are_valid_and_the_same_twice(bill: Bill, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        write_bills(folder, bill)
    spdx, cdx = (folders[0] / name for name in ("sbom.spdx.json", "sbom.cdx.json"))
    for path in (spdx, cdx):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
    faults = validate_full_spdx_document(parse_file(str(spdx)))
    assert [fault.validation_message for fault in faults] == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cdx.read_text()) is None
    said = json.loads(cdx.read_text())
    assert said["metadata"]["timestamp"] == "2026-01-01T00:00:00+00:00"
    assert json.loads(spdx.read_text())["creationInfo"]["created"] == "2026-01-01T00:00:00Z"
    assert uuid.UUID(said["serialNumber"].removeprefix("urn:uuid:"))
    assert len(said["components"]) == len(bill.components)


def test_documents_of_another_image_are_known(bill: Bill, tmp_path: Path) -> None:
    """A release takes none, and verify tells of one: `builder.release.documents`."""
    lock = locked()
    own = image(lock)
    write_bills(tmp_path, bill)
    texts = {
        "lock.json": lock.model_dump_json(),
        "provenance.json": provenance_json(own, lock, frozenset({0}), SOURCES, "0.1"),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in DOCUMENTS]
    assert [fault(path, own) for path in paths] == [None] * 4
    later = own.model_copy(update={"version": "9"})
    assert [fault(path, later) for path in paths] == [None, *["tells of another image"] * 3]
    more = own.model_copy(update={"packages": (*own.packages, package("delta", content="9"))})
    told = [fault(path, more) for path in paths]
    assert told[0] == "is not the lock that the image was built from"
    assert told[1:] == [None, *["does not name delta of the image"] * 2]
    files = own.model_copy(update={"artifacts": own.artifacts[1:]})
    assert fault(tmp_path / "provenance.json", files) == "tells of another image"
    for path in paths:
        path.chmod(0o644)
        path.write_text("{}")
        assert fault(path, own) in ("cannot be understood", "is no lock")
        path.unlink()
        assert fault(path, own) == "cannot be understood"


def test_the_validators_see_faults(bill: Bill, tmp_path: Path) -> None:
    write_bills(tmp_path, bill)
    spdx, cdx = (tmp_path / name for name in ("sbom.spdx.json", "sbom.cdx.json"))
    spdx.chmod(0o644)
    spdx.write_text(spdx.read_text().replace("SPDXRef-container", "SPDXRef-nowhere", 1))
    assert validate_full_spdx_document(parse_file(str(spdx)))
    said = json.loads(cdx.read_text())
    said["components"][0]["hashes"] = [{"alg": "SHA-256", "content": "x"}]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(said))


def test_provenance_names_every_input_and_every_file() -> None:
    lock = locked()
    text = provenance_json(image(lock), lock, frozenset({0}), SOURCES, "0.1")
    assert text == provenance_json(image(lock), lock, frozenset({0}), SOURCES, "0.1")
    said = json.loads(text)
    parsed = json_format.ParseDict(said, Statement([], "x", {}).pb)
    Statement.copy_from_pb(parsed).validate()
    provenance = json_format.ParseDict(said["predicate"], provenance_pb2.Provenance())
    assert provenance.build_definition.build_type == "urn:x-imgbuild:build:1"
    subjects = {one["name"] for one in said["subject"]}
    assert {"root.erofs", "uki.efi", f"layers/{digest('a')}.erofs"} <= subjects
    inputs = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {one["digest"]["sha256"] for one in inputs}
    assert {digest("1"), digest("2"), digest("5"), digest("7")} <= digests
    assert len(inputs) == 5  # two packages, a wheel, the builder, the lock


def test_another_lock_is_refused() -> None:
    lock = locked()
    check_fits(image(lock), lock, Path("lock"))
    for other in (
        lock.model_copy(update={"epoch": lock.epoch + 1}),
        lock.model_copy(update={"packages": lock.packages[:1]}),
    ):
        with pytest.raises(UserError, match="was built from another lock"):
            check_fits(image(lock), other, Path("lock"))

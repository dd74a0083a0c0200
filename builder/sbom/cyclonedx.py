"""The bill of materials as CycloneDX 1.6, in JSON."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

from cyclonedx.model import ExternalReference as Reference
from cyclonedx.model import ExternalReferenceType as ReferenceType
from cyclonedx.model import HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component as CdxComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from builder.model.bill import Bill, Component, ComponentKind

_IMAGE = "image"
_TYPES: dict[ComponentKind, ComponentType] = {
    "deb": ComponentType.LIBRARY,
    "wheel": ComponentType.LIBRARY,
    "container": ComponentType.CONTAINER,
    "layer": ComponentType.FILE,
    "model": ComponentType.MACHINE_LEARNING_MODEL,
    "module": ComponentType.DEVICE_DRIVER,
    "firmware": ComponentType.FIRMWARE,
    "own": ComponentType.APPLICATION,
}


def cyclonedx_json(bill: Bill, namespace: uuid.UUID) -> str:
    """Return the document; its identifiers follow from the bill, so equal bills give equal bytes.

    The format has no place for the texts of licences beside an expression: SPDX has them.
    """
    image = CdxComponent(
        type=ComponentType.OPERATING_SYSTEM,
        name=bill.image_id,
        version=bill.version,
        bom_ref=_IMAGE,
    )
    tool = CdxComponent(type=ComponentType.APPLICATION, name="imgbuild", version=bill.tool)
    tool.bom_ref.value = "imgbuild"
    bom = Bom(
        serial_number=uuid.uuid5(namespace, bill.digest),
        metadata=BomMetaData(
            timestamp=datetime.fromtimestamp(bill.epoch, UTC), component=image, lifecycles=()
        ),
        components=[_component(one) for one in bill.components],
        dependencies=_dependencies(bill),
    )
    bom.metadata.tools.components.add(tool)
    text = JsonV1Dot6(bom).output_as_string()
    return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _component(one: Component) -> CdxComponent:
    notes = {**one.notes, **({"part-of": ", ".join(one.part_of)} if one.part_of else {})}
    return CdxComponent(
        type=_TYPES[one.kind],
        name=one.name,
        version=one.version,
        bom_ref=one.key,
        supplier=OrganizationalEntity(name=one.supplier) if one.supplier else None,
        description=one.summary,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)] if one.sha256 else [],
        licenses=[LicenseExpression(one.licence)] if one.licence else [],
        purl=PackageURL.from_string(one.purl) if one.purl else None,
        external_references=_website(one.homepage),
        properties=[Property(name=f"imgbuild:{key}", value=notes[key]) for key in sorted(notes)],
    )


def _website(homepage: str | None) -> list[Reference]:
    if not homepage:
        return []
    return [Reference(type=ReferenceType.WEBSITE, url=XsUri(homepage))]


def _dependencies(bill: Bill) -> list[Dependency]:
    """Return who needs whom: what contains something needs it, too."""
    needed: dict[str, set[str]] = {_IMAGE: set()}
    for one in bill.components:
        needed.setdefault(one.key, set()).update(one.needs)
        for whole in one.part_of or (_IMAGE,):
            needed.setdefault(whole, set()).add(one.key)
    return [_dependency(key, needed[key]) for key in sorted(needed)]


def _dependency(key: str, others: set[str]) -> Dependency:
    return Dependency(BomRef(key), [Dependency(BomRef(other)) for other in sorted(others)])

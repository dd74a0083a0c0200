"""The bill of materials as SPDX 2.3, in JSON."""

from __future__ import annotations

import io
import json
import uuid
from datetime import UTC, datetime

from license_expression import get_spdx_licensing
from spdx_tools.spdx.model.actor import Actor, ActorType
from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
from spdx_tools.spdx.model.document import CreationInfo, Document
from spdx_tools.spdx.model.extracted_licensing_info import ExtractedLicensingInfo
from spdx_tools.spdx.model.package import (
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    PackagePurpose,
)
from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from builder.model.bill import Bill, Component, ComponentKind

_LICENSING = get_spdx_licensing()
_DOCUMENT, _IMAGE = "SPDXRef-DOCUMENT", "SPDXRef-image"
_PURPOSES: dict[ComponentKind, PackagePurpose] = {
    "deb": PackagePurpose.INSTALL,
    "wheel": PackagePurpose.LIBRARY,
    "container": PackagePurpose.CONTAINER,
    "layer": PackagePurpose.ARCHIVE,
    "model": PackagePurpose.FILE,
    "module": PackagePurpose.DEVICE,
    "firmware": PackagePurpose.FIRMWARE,
    "own": PackagePurpose.APPLICATION,
}


def spdx_json(bill: Bill, namespace: uuid.UUID) -> str:
    """Return the document; its identifiers follow from the bill, so equal bills give equal bytes.

    `namespace` keeps the identifiers apart from those of other documents of the image. The
    document is not validated here: that takes long, and tests do it.
    """
    stream = io.StringIO()
    document = spdx_document(bill, namespace)
    write_document_to_stream(document, stream, validate=False, drop_duplicates=False)
    return json.dumps(json.loads(stream.getvalue()), indent=1, sort_keys=True) + "\n"


def spdx_document(bill: Bill, namespace: uuid.UUID) -> Document:
    """Return the document as the library's own value."""
    name = f"{bill.image_id}-{bill.version}"
    unique = uuid.uuid5(namespace, bill.digest)
    return Document(
        creation_info=CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=name,
            # As the specification suggests (SPDX 2.3, 6.5): nothing has to be there.
            document_namespace=f"https://spdx.org/spdxdocs/{name}-{unique}",
            creators=[Actor(ActorType.TOOL, f"imgbuild-{bill.tool}")],
            created=datetime.fromtimestamp(bill.epoch, UTC).replace(tzinfo=None),
        ),
        packages=[_image(bill), *(_package(one) for one in bill.components)],
        relationships=_relationships(bill),
        extracted_licensing_info=[
            ExtractedLicensingInfo(
                license_id=one.ref, license_name=one.name, extracted_text=one.text
            )
            for one in bill.texts
        ],
    )


def _image(bill: Bill) -> Package:
    return Package(
        spdx_id=_IMAGE,
        name=bill.image_id,
        version=bill.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM,
    )


def _package(one: Component) -> Package:
    declared = _LICENSING.parse(one.licence) if one.licence else SpdxNoAssertion()
    return Package(
        spdx_id=_ref(one.key),
        name=one.name,
        version=one.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        supplier=_supplier(one.supplier) if one.supplier else None,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, one.sha256)] if one.sha256 else [],
        homepage=one.homepage if one.homepage and _is_url(one.homepage) else None,
        license_concluded=SpdxNoAssertion(),
        license_declared=declared,
        copyright_text=SpdxNoAssertion(),
        summary=one.summary,
        comment="; ".join(f"{key}: {value}" for key, value in sorted(one.notes.items())) or None,
        external_references=_purl(one.purl) if one.purl else [],
        primary_package_purpose=_PURPOSES[one.kind],
    )


def _supplier(maintainer: str) -> Actor:
    name, _, rest = maintainer.partition(" <")
    return Actor(ActorType.ORGANIZATION, name.strip('"'), rest.rstrip(">") or None)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _purl(purl: str) -> list[ExternalPackageRef]:
    return [ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", purl)]


def _relationships(bill: Bill) -> list[Relationship]:
    found = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    for one in bill.components:
        wholes = [_ref(key) for key in one.part_of] or [_IMAGE]
        contains, needs = RelationshipType.CONTAINS, RelationshipType.DEPENDS_ON
        found += [Relationship(whole, contains, _ref(one.key)) for whole in wholes]
        found += [Relationship(_ref(one.key), needs, _ref(other)) for other in one.needs]
    return found


def _ref(key: str) -> str:
    return f"SPDXRef-{key}"

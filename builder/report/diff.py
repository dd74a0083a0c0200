"""`imgbuild diff --html`: the difference of two images as a page."""

from __future__ import annotations

from builder.model.difference import Difference
from builder.report.page import render


def diff_page(found: Difference) -> str:
    """Return the page of a difference."""
    facts = {fact.name: fact for fact in found.facts}
    image, version = facts["image"], facts["version"]
    title = f"{image.old} {version.old} → {image.new} {version.new}"
    cves = {cve for log in found.changelogs for cve in log.cves}
    return render("diff.html.j2", found=found, title=title, cves=sorted(cves))

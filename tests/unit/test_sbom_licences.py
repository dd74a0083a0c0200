"""Names of licences, as Debian and Python write them, and their SPDX expressions."""

from __future__ import annotations

from email.parser import HeaderParser

import pytest

from builder.sbom.debian import licence_of
from builder.sbom.licences import debian_expression, licence_ref
from builder.sbom.wheels import wheel_licence


@pytest.mark.parametrize(
    ("synopsis", "expression"),
    [
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Expat", "MIT"),
        ("bsd-3-clause", "BSD-3-Clause"),
        ("BSD-3-clause or GPL-2", "BSD-3-Clause OR GPL-2.0-only"),
        ("GPL-1+ or Artistic, and Expat", "(Artistic-1.0-Perl OR GPL-1.0-or-later) AND MIT"),
        ("Expat and Expat", "MIT"),
        ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+ with strange exception", "?GPL-2+ with strange exception?"),
        ("GPL", "?GPL?"),
        ("public-domain and Zlib", "?public-domain? AND Zlib"),
    ],
)
def test_debian_names(synopsis: str, expression: str) -> None:
    assert debian_expression(synopsis, lambda name: f"?{name}?") == expression


def test_one_name_with_two_texts_is_two_licences() -> None:
    assert licence_ref("custom", "a") != licence_ref("custom", "b")
    assert licence_ref("My (own) licence!", "a").startswith("LicenseRef-My-own-licence-")


@pytest.mark.parametrize("text", [None, "", "Copyright nobody\n", "Format: 1.0\nFiles *\n"])
def test_what_is_not_machine_readable_states_nothing(text: str | None) -> None:
    assert licence_of(text, {}) is None


@pytest.mark.parametrize(
    ("lines", "expression"),
    [
        ("License-Expression: Apache-2.0 OR bsd-2-clause", "Apache-2.0 OR BSD-2-Clause"),
        ("License: MIT License", "MIT"),
        ("License: a text\n        of several lines", None),
        ("License: BSD\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License", None),
        ("License-Expression: no such thing", None),
        ("Name: x", None),
    ],
)
def test_wheels(lines: str, expression: str | None) -> None:
    assert wheel_licence(HeaderParser().parsestr(f"{lines}\n\n")) == expression

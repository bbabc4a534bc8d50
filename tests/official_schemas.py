"""The official OASIS and IHE schemas, where they lie beside the project, to judge what is written by."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
from lxml import etree

from tests.shared_material import IS_REQUIRED, SHARED

_SCHEMAS = SHARED / "schemas-official"
_NAMES = ("rim.xsd", "rs.xsd", "lcm.xsd", "query.xsd", "XDS.b_DocumentRepository.xsd")
_INCLUDE = "{http://www.w3.org/2004/08/xop/include}Include"

needs_official_schemas = pytest.mark.skipif(
    not _SCHEMAS.is_dir() and not IS_REQUIRED, reason="the official schemas are not in ../shared/schemas-official"
)


@cache
def _schema() -> etree.XMLSchema:
    imports = "".join(
        f'<import namespace="{etree.parse(_SCHEMAS / name).getroot().get("targetNamespace")}" '
        f'schemaLocation="{(_SCHEMAS / name).as_uri()}"/>'
        for name in _NAMES
    )
    return etree.XMLSchema(etree.fromstring(f'<schema xmlns="http://www.w3.org/2001/XMLSchema">{imports}</schema>'))


def assert_valid(body: bytes | etree._Element) -> None:
    """The body of a message is valid; documents that are elsewhere count as inline (XOP)."""
    message = etree.fromstring(body) if isinstance(body, bytes) else deepcopy(body)
    for include in list(message.iter(_INCLUDE)):
        document = include.getparent()
        assert document is not None
        document.remove(include)
        document.text = "VG9pbWlr"
    _schema().assertValid(message)

"""xop:Include elements that stand in an envelope elsewhere than in a Document, and how they are put back.

Some MTOM engines take every base64 text out of an envelope, also the certificates of WS-Security and values of Slots.
XML-binary Optimized Packaging (XOP), section 3.2: each stands for the base64 of one part of the same message, which is
put back before anybody reads the element. What stands in a Document is a document, and stays a part.
"""

import binascii
from typing import Final, NamedTuple

from lxml.etree import QName, _Element

from xds.mtom import XOP_NAMESPACE, MultipartProblem, content_id_of
from xds.xml import prefixed

_INCLUDE: Final = f"{{{XOP_NAMESPACE}}}Include"
_DOCUMENT: Final = "{urn:ihe:iti:xds-b:2007}Document"


class Include(NamedTuple):
    """An element whose text is in a part of the message.

    content_id   of that part, as xds.mtom has it
    """

    element: _Element
    content_id: str


def includes_elsewhere(root: _Element) -> list[Include]:
    """Each xop:Include that is in no Document, in document order.

    Raises MultipartProblem for one that refers to anything but a part, or is not alone in its element.
    """
    found = []
    for include in root.iter(_INCLUDE):
        element = include.getparent()
        if element is None or element.tag == _DOCUMENT:
            continue
        if len(element) != 1 or (element.text or "").strip() or (include.tail or "").strip():
            raise MultipartProblem(
                f"The xop:Include in {prefixed(QName(element).text)} stands beside other content; it has to be alone."
            )
        found.append(Include(element, content_id_of(include.get("href", ""))))
    return found


def put_back(include: Include, content: bytes) -> None:
    """Make the base64 of a part's content the text of the element, in the place of its xop:Include."""
    del include.element[:]
    include.element.text = binascii.b2a_base64(content, newline=False).decode("ascii")

"""Shapes that are declared, not coded: XSD, WSDL, SQL, code sets, FHIR definitions, rendering dictionaries.

The XML grammars and service descriptions are read from the package here. On disk they refer to each other
by file name, so that any editor or validator can open them where they lie; what a server hands out refers
to `?wsdl` and `?xsd=name` of its own endpoint instead.
"""

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from xml.sax.saxutils import quoteattr

WSDL_ACTORS = ("registry", "repository")

# The grammar of documents as programs see them, and of documents as MTOM sends them.
PUBLISHED_DOCUMENT_XSD = "xds-b-document.xsd"
WIRE_DOCUMENT_XSD = "xds-b-document-xop.xsd"

_SCHEMA_LOCATION = re.compile(r'schemaLocation="(?:\.\./xsd/)?([^"]+)"')
_ADDRESS_LOCATION = re.compile(r'(?<=<soap12:address )location="[^"]*"')


def xsd_names() -> frozenset[str]:
    """The file names of all XML Schemas of the package."""
    return frozenset(_contents("xsd", ".xsd"))


def xsd_source(name: str) -> bytes:
    """An XML Schema as it lies in the package; its neighbours are named by file name.

    Raises KeyError where there is no such schema. A name is never taken for a path.
    """
    return _contents("xsd", ".xsd")[name]


def xsd(name: str, address: str = "") -> bytes:
    """An XML Schema as a server hands it out; its neighbours are found at `address?xsd=name`.

    address: of the endpoint that serves it. Without one the references are relative (`?xsd=name`), which
    RFC 3986 resolves rightly and some older client libraries do not.
    Raises KeyError where there is no such schema.
    """
    return _located(xsd_source(name), address)


def wsdl(actor: str, address: str) -> bytes:
    """The service description of an actor as the endpoint at address hands it out.

    actor: one of WSDL_ACTORS.
    Raises KeyError where there is no such actor.
    """
    document = _contents("wsdl", ".wsdl")[f"{actor}.wsdl"].decode()
    # A function, because an address may hold what a replacement template would take for an escape.
    document = _ADDRESS_LOCATION.sub(lambda _: f"location={quoteattr(address)}", document)
    return _located(document.encode(), address)


def fhir(name: str) -> bytes:
    """A table about FHIR by its file name, such as `r4_elements.json` (schemas/fhir/README.md).

    Raises KeyError where there is no such table.
    """
    return _contents("fhir", name[name.rfind(".") :])[name]


def _located(document: bytes, address: str) -> bytes:
    def location(match: re.Match[str]) -> str:
        return f"schemaLocation={quoteattr(f'{address}?xsd={match[1]}')}"

    return _SCHEMA_LOCATION.sub(location, document.decode()).encode()


@cache
def _contents(directory: str, suffix: str) -> dict[str, bytes]:
    resources: Traversable = files(__name__) / directory
    return {each.name: each.read_bytes() for each in resources.iterdir() if each.name.endswith(suffix)}

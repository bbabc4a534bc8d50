"""The one XML parser, and the judgement by schema.

Every byte of XML that Toimik did not write itself comes in through `parse`. It refuses any document type
declaration, so there are no entities to expand and nothing to fetch, and it bounds size, depth, number of
elements and attributes before anything walks the tree. `validate` compares a message with the grammar its
standard gives it (ebRS and ebRIM 3.0; ITI TF-2: 3.41 and 3.43 for the messages of a repository). What does not
pass ends as an XmlProblem: one sentence for the integrator at the other end.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import takewhile
from typing import Any

from lxml import etree

import schemas

# The deepest tree libxml2 builds when it is not told to give up its own guard.
_LIBXML2_DEPTH = 256
_LAST_SURE_LINE = 65535


@dataclass(frozen=True, slots=True)
class XmlLimits:
    """What a message may cost before its meaning is known.

    The defaults admit a submission of some three thousand entries.

    max_bytes        octets as received
    max_depth        elements within elements, the root being 1; at most 255
    max_elements     elements; comments and processing instructions count, although they are dropped
    max_attributes   attributes and namespace declarations of one element
    """

    max_bytes: int = 32 * 1024 * 1024
    max_depth: int = 64
    max_elements: int = 500_000
    max_attributes: int = 128

    def __post_init__(self) -> None:
        if self.max_depth >= _LIBXML2_DEPTH:
            raise ValueError(f"max_depth is {self.max_depth}; the parser can promise at most {_LIBXML2_DEPTH - 1}")


DEFAULT_LIMITS = XmlLimits()


class XmlProblem(Exception):
    """Why a message was not read: a sentence that names the place and what is wrong with it.

    line     1 for the first; None where no place can be named
    column   likewise; schema problems have a line only
    """

    def __init__(self, sentence: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line
        self.column = column


class Schema(Enum):
    """The messages there is a grammar for, by the name of their outermost element (Clark notation)."""

    SUBMIT_OBJECTS_REQUEST = "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest"
    REMOVE_OBJECTS_REQUEST = "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}RemoveObjectsRequest"
    ADHOC_QUERY_REQUEST = "{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryRequest"
    ADHOC_QUERY_RESPONSE = "{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryResponse"
    REGISTRY_RESPONSE = "{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}RegistryResponse"
    PROVIDE_AND_REGISTER_DOCUMENT_SET_REQUEST = "{urn:ihe:iti:xds-b:2007}ProvideAndRegisterDocumentSetRequest"
    RETRIEVE_DOCUMENT_SET_REQUEST = "{urn:ihe:iti:xds-b:2007}RetrieveDocumentSetRequest"
    RETRIEVE_DOCUMENT_SET_RESPONSE = "{urn:ihe:iti:xds-b:2007}RetrieveDocumentSetResponse"
    REMOVE_DOCUMENTS_REQUEST = "{urn:ihe:iti:rmd:2017}RemoveDocumentsRequest"
    PATIENT_ADDED = "{urn:hl7-org:v3}PRPA_IN201301UV02"
    PATIENT_REVISED = "{urn:hl7-org:v3}PRPA_IN201302UV02"
    PATIENT_DUPLICATES_RESOLVED = "{urn:hl7-org:v3}PRPA_IN201304UV02"
    ACCEPT_ACKNOWLEDGEMENT = "{urn:hl7-org:v3}MCCI_IN000002UV01"

    @classmethod
    def of(cls, element: etree._Element) -> "Schema":
        """The schema for a message, found by the name of its outermost element.

        Raises XmlProblem: there is none of that name.
        """
        try:
            return cls(element.tag)
        except ValueError:
            known = ", ".join(prefixed(schema.value) for schema in cls)
            raise XmlProblem(
                f"{prefixed(str(element.tag))} (line {element.sourceline}) is no message known here; known are {known}",
                element.sourceline,
            ) from None


_GRAMMARS = {
    "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": "lcm.xsd",
    "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0": "query.xsd",
    "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0": "rs.xsd",
    "urn:ihe:iti:xds-b:2007": "xds-b.xsd",
    "urn:ihe:iti:rmd:2017": "rmd.xsd",
    "urn:hl7-org:v3": "hl7v3-patient-feed.xsd",
}

_CONVENTIONAL_PREFIXES = {
    "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0": "rim",
    "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0": "rs",
    "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": "lcm",
    "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0": "query",
    "urn:ihe:iti:xds-b:2007": "xds",
    "urn:ihe:iti:rmd:2017": "rmd",
    "urn:hl7-org:v3": "hl7",
    "http://www.w3.org/2003/05/soap-envelope": "soap",
    "http://schemas.xmlsoap.org/soap/envelope/": "soap11",
    "http://www.w3.org/2005/08/addressing": "wsa",
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd": "wsse",
    "http://www.w3.org/2004/08/xop/include": "xop",
    "http://www.w3.org/XML/1998/namespace": "xml",
    "http://www.w3.org/2001/XMLSchema-instance": "xsi",
}


def prefixed(text: str) -> str:
    """A text in which names in Clark notation have the prefix that readers of the standards know them by."""
    for namespace, prefix in _CONVENTIONAL_PREFIXES.items():
        text = text.replace(f"{{{namespace}}}", f"{prefix}:")
    return text


# Parsing


def parse(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> etree._Element:
    """The root of an XML document, without comments and processing instructions.

    data: UTF-8 or UTF-16, with or without a byte order mark.
    Raises XmlProblem: not well-formed, not UTF-8 or UTF-16, a document type declaration, or beyond a limit.
    """
    if len(data) > limits.max_bytes:
        raise XmlProblem(f"the message has {len(data)} bytes of XML; {limits.max_bytes} are accepted")
    data = _as_utf_8(data)
    _check_prolog(data)
    _check_tags(data, limits)
    try:
        root = etree.fromstring(data, _tools.parser)
    except etree.XMLSyntaxError as error:
        raise _syntax_problem(error, limits) from None
    # Whatever lies that deep lies in as many elements that end with a tag of their own.
    if data.count(b"</") >= limits.max_depth and _tools.deeper_than(limits.max_depth)(root):
        raise XmlProblem(_too_deep(limits))
    return root


def _as_utf_8(data: bytes) -> bytes:
    """The same document in UTF-8 without byte order mark.

    The bytes decide between UTF-8 and UTF-16, not the XML declaration: some clients declare the encoding
    that a string had in memory and send another.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16").encode()
        if data.startswith((b"<\0", b"\0<")):
            return data.decode("utf-16-le" if data.startswith(b"<") else "utf-16-be").encode()
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError as error:
        line, column = _position(data, error.start)
        raise XmlProblem(
            f"line {line}, column {column}: byte 0x{data[error.start]:02X} is not {error.encoding.upper()}; "
            "send the message as UTF-8 or UTF-16",
            line,
            column,
        ) from None
    return data


_PROLOG = re.compile(
    rb"""(?:<\?xml\s(?:[^?>]*?encoding\s*=\s*["'](?P<encoding>[^"'<>]*)["'])?[^<>]*?\?>)?"""
    rb"(?:\s++|<!--.*?-->|<\?.*?\?>)*+(?P<doctype><!DOCTYPE)?",
    re.DOTALL,
)
_ENCODINGS = {b"utf-8", b"utf8", b"utf-16", b"utf-16le", b"utf-16be", b"utf16", b"us-ascii", b"ascii"}


def _check_prolog(data: bytes) -> None:
    prolog = _PROLOG.match(data)
    if prolog is None:
        return
    if prolog["doctype"]:
        line, column = _position(data, prolog.start("doctype"))
        raise XmlProblem(
            f"line {line}, column {column}: a document type declaration (<!DOCTYPE) is not accepted; leave it out",
            line,
            column,
        )
    if prolog["encoding"] and prolog["encoding"].lower() not in _ENCODINGS:
        encoding = prolog["encoding"].decode(errors="replace")
        raise XmlProblem(f"line 1: encoding {encoding} is not accepted; send the message as UTF-8 or UTF-16", 1)


# One attribute or namespace declaration of a start tag, with the space before it.
_ATTRIBUTE = re.compile(rb"""\s+[^\s=<>"']+\s*=\s*(?:"[^"<]*"|'[^'<]*')""")
_ELEMENT_NAME = re.compile(rb"""<[^\s<>!?/"'=]+""")
_SHORTEST_ELEMENT = len("<a/>")
_SHORTEST_ATTRIBUTE = len(' a=""')


def _check_tags(data: bytes, limits: XmlLimits) -> None:
    """Count elements and attributes before a tree of them is built.

    Most messages are too short to have too many of either, and that is what is looked at first.
    """
    if len(data) > limits.max_elements * _SHORTEST_ELEMENT:
        elements = data.count(b"<") - data.count(b"</")
        if elements > limits.max_elements:
            raise XmlProblem(f"the message has {elements} elements; {limits.max_elements} are accepted")
    for start in _tags_longer_than(limits.max_attributes * _SHORTEST_ATTRIBUTE, data):
        name = _ELEMENT_NAME.match(data, start)
        if name and _more_attributes_than(limits.max_attributes, data, name.end()):
            line, column = _position(data, start)
            raise XmlProblem(
                f"line {line}, column {column}: element {_excerpt(name[0][1:].decode(errors='replace'))} has more "
                f"than {limits.max_attributes} attributes and namespace declarations",
                line,
                column,
            )


def _tags_longer_than(length: int, data: bytes) -> Iterator[int]:
    """Where a `<` is not followed by the next one within that many bytes.

    Looks backwards from the far end of each window, so that short tags cost next to nothing.
    """
    start = data.find(b"<")
    while start >= 0:
        nearest = data.rfind(b"<", start + 1, start + 1 + length)
        if nearest < 0:
            yield start
            nearest = data.find(b"<", start + 1)
        start = nearest


def _more_attributes_than(limit: int, data: bytes, position: int) -> bool:
    for _ in range(limit + 1):
        attribute = _ATTRIBUTE.match(data, position)
        if attribute is None:
            return False
        position = attribute.end()
    return True


def _position(data: bytes, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1; the column counts bytes."""
    return data.count(b"\n", 0, offset) + 1, offset - data.rfind(b"\n", 0, offset)


def _syntax_problem(error: etree.XMLSyntaxError, limits: XmlLimits) -> XmlProblem:
    line, column = error.position
    reason = re.sub(r", line \d+, column \d+$", "", error.msg or "").strip()
    if "Excessive depth" in reason:
        return XmlProblem(_too_deep(limits))
    if "Text node too long" in reason or "AttValue length too long" in reason:
        reason = "a text of more than 10 MB is not accepted; send documents as MTOM parts"
    elif undefined := re.fullmatch(r"Entity '(.*)' not defined", reason):
        reason = f"entity &{undefined[1]}; is not defined; only &amp; &lt; &gt; &quot; &apos; are"
    elif reason == "Document is empty":
        reason = "there is no XML in the message"
    return XmlProblem(f"line {line}, column {column}: not well-formed XML: {_excerpt(reason)}", line, column)


def _too_deep(limits: XmlLimits) -> str:
    return f"elements are nested more than {limits.max_depth} deep"


def _excerpt(text: str, length: int = 600) -> str:
    return text if len(text) <= length else f"{text[:length]} ..."


# Validation


def validate(element: etree._Element, schema: Schema, size: int | None = None) -> None:
    """Compare a message with its grammar.

    element: the outermost element of the message; it may stand within an envelope.
    size: octets that it was read from, or more; what is short is not searched for how many elements it has.
    Raises XmlProblem: the first place that departs from the grammar, as a path, and what was expected there.
    """
    if element.tag != schema.value:
        raise XmlProblem(
            f"{prefixed(str(element.tag))} (line {element.sourceline}): {prefixed(schema.value)} is expected here",
            element.sourceline,
        )
    is_small = (size is not None and size < _LARGE * _SHORTEST_ELEMENT) or not _tools.is_large(element)
    if is_small and _tools.grammar.validate(element):
        return
    # The verdict on a tree lists all its errors, each with a path that is found by counting siblings: with
    # a hundred thousand errors that is a minute. So the verdict on a large tree is taken from a stream.
    departure = _first_departure(element, _tools.grammar)
    if departure is not None:
        raise _schema_problem(*departure, message=element)


_LARGE = 1000  # elements
_ROUGH_STEP = 4096
_MARKUP = re.compile(rb"[^>]*>?")


def _first_departure(message: etree._Element, grammar: etree.XMLSchema) -> tuple[etree._Element, str] | None:
    """The first element that departs from the grammar, and what libxml2 says about it.

    The message is read again, in rough steps and without a tree as long as it is in order. The step in which
    it ceases to be so is then taken tag by tag: whatever is wrong was said by the tag read last.
    """
    text = etree.tostring(message, encoding="utf-8", xml_declaration=False, with_tail=False)
    nothing: Any = _Nothing()
    rough = etree.XMLParser(target=nothing, schema=grammar, resolve_entities=False, no_network=True)
    for start in range(0, len(text), _ROUGH_STEP):
        rough.feed(text[start : start + _ROUGH_STEP])
        if len(rough.feed_error_log):
            break
    else:
        return None
    exact = etree.XMLPullParser(
        ("start",), tag=str(message.tag), schema=grammar, resolve_entities=False, no_network=True
    )
    exact.feed(text[:start])
    for markup in _MARKUP.findall(text, start):
        exact.feed(markup)
        if len(exact.feed_error_log):
            break
    said = exact.feed_error_log[0].message
    copy: Any = next(iter(exact.read_events()))[1]
    return _speaking_element(message, copy, said), said


class _Nothing:
    """Makes nothing of what is parsed."""

    def close(self) -> None:
        pass


def _speaking_element(message: etree._Element, copy: etree._Element, said: str) -> etree._Element:
    """The element of the message at the end of what was copied so far, of the name that is spoken of."""
    match = _ELEMENT_AND_REASON.match(said)
    name = match["element"] if match else message.tag
    found = message
    while len(copy):
        message, copy = message[len(copy) - 1], copy[-1]
        if message.tag == name:
            found = message
    return found


_ELEMENT_AND_REASON = re.compile(
    r"Element '(?P<element>[^']+)'(?:, attribute '(?P<attribute>[^']+)')?: (?P<reason>.*)", re.DOTALL
)

# What libxml2 says of an element that should not stand where it stands; it is told of the parent.
_MISPLACED = re.compile(r"This element is not expected\.(?: Expected is (one of )?\( (.*) \)\.)?")
# What libxml2 says of an element's own content and attributes, and what we say.
_REWORDED = (
    (
        re.compile(r"Missing child element\(s\)\. Expected is one of \( (.*) \)\."),
        "an element is missing; expected is one of {}",
    ),
    (re.compile(r"Missing child element\(s\)\. Expected is \( (.*) \)\."), "element {} is missing"),
    (re.compile(r"The attribute '(.*)' is required but missing\."), "attribute {} is required and missing"),
    (re.compile(r"The attribute '(.*)' is not allowed\."), "attribute {} is not allowed"),
    (
        re.compile(r"\[facet 'enumeration'\] The value (.*) is not an element of the set \{(.*)\}\.", re.DOTALL),
        "the value {} is none of {}",
    ),
)


def _schema_problem(element: etree._Element, said: str, *, message: etree._Element) -> XmlProblem:
    match = _ELEMENT_AND_REASON.match(said)
    reason = match["reason"].strip() if match else said
    place, parent = element, element.getparent()
    if (misplaced := _MISPLACED.fullmatch(reason)) and parent is not None:
        place = parent
        reason = f"element {element.tag!s} is not expected here"
        if misplaced[2]:
            reason += f"; expected is {misplaced[1] or ''}{misplaced[2]}"
    else:
        reason = _reworded(reason, match["attribute"] if match else None)
    identity = f", id {_excerpt(place.get('id', ''), 64)}" if place.get("id") else ""
    where = prefixed(f"{_path(place, message)} ({_line(element)}{identity})")
    return XmlProblem(f"{where}: {_excerpt(prefixed(reason))}", element.sourceline)


def _line(element: etree._Element) -> str:
    # libxml2 keeps sixteen bits for the line of an element that has no text near it.
    return f"line {element.sourceline}" + (" or later" if element.sourceline == _LAST_SURE_LINE else "")


def _reworded(reason: str, attribute: str | None) -> str:
    for pattern, wording in _REWORDED:
        if found := pattern.fullmatch(reason):
            reason = wording.format(*found.groups())
            break
    else:
        reason = reason[:1].lower() + reason[1:].rstrip(".")
    if attribute and not reason.startswith("attribute "):
        return f"attribute {attribute}: {reason}"
    return reason


def _path(element: etree._Element, message: etree._Element) -> str:
    upwards = takewhile(lambda each: each is not message, (element, *element.iterancestors()))
    return "/".join([str(message.tag), *reversed([_step(each) for each in upwards])])


def _step(element: etree._Element) -> str:
    """A name, with its number where it has neighbours of the same name."""
    before = sum(1 for _ in element.itersiblings(str(element.tag), preceding=True))
    alone = before == 0 and next(element.itersiblings(str(element.tag)), None) is None
    return str(element.tag) if alone else f"{element.tag!s}[{before + 1}]"


# What each thread has to itself


_ATTEMPTS = 100


class _Tools(threading.local):
    """A parser and a grammar for each thread: libxml2's error logs and locks are not for sharing."""

    @cached_property
    def parser(self) -> etree.XMLParser[etree._Element]:
        return etree.XMLParser(
            encoding="utf-8",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
            collect_ids=False,
        )

    @cached_property
    def grammar(self) -> etree.XMLSchema:
        """All grammars as one, so that what they share is compiled once (some milliseconds)."""
        reader = etree.XMLParser(no_network=True, resolve_entities=False)
        reader.resolvers.add(_SchemasOfThePackage())
        imports = "".join(
            f'<xs:import namespace="{namespace}" schemaLocation="{name}"/>' for namespace, name in _GRAMMARS.items()
        )
        whole = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{imports}</xs:schema>'
        # What finds imports is one for the whole process while lxml reads: where another thread reads at this moment,
        # they may not be found. Then they are in a moment.
        for _ in range(_ATTEMPTS):
            with suppress(etree.XMLSchemaParseError):
                return etree.XMLSchema(etree.fromstring(whole, reader))
        return etree.XMLSchema(etree.fromstring(whole, reader))

    @cached_property
    def is_large(self) -> etree.XPath:
        return etree.XPath(f"boolean(descendant::*[{_LARGE}])")

    @cached_property
    def _deeper_than(self) -> dict[int, etree.XPath]:
        return {}

    def deeper_than(self, depth: int) -> etree.XPath:
        if depth not in self._deeper_than:
            self._deeper_than[depth] = etree.XPath(f"boolean({'/*' * (depth + 1)})")
        return self._deeper_than[depth]


class _SchemasOfThePackage(etree.Resolver):
    """Finds a schema among ours and nowhere else; of a Document, the form it has on the wire."""

    def resolve(self, system_url: str | None, public_id: str | None, context: Any) -> Any:  # noqa: ARG002
        name = (system_url or "").rpartition("/")[2]
        if name == schemas.PUBLISHED_DOCUMENT_XSD:
            name = schemas.WIRE_DOCUMENT_XSD
        return self.resolve_string(schemas.xsd_source(name), context, base_url=system_url)


_tools = _Tools()

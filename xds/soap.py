"""SOAP 1.2 envelopes with WS-Addressing: what is read of a request, and the frame around an answer or a fault.

Reading takes an element that xds.xml has parsed. Writing joins strings: body writers give finished bytes, declare
their own namespaces, and are put between envelope_head and ENVELOPE_TAIL.

ITI TF-2: Appendix V (web services). SOAP 1.2 part 1 (envelope, faults, version transition in appendix A) and part 2
(HTTP status); WS-Addressing 1.0 - SOAP Binding, section 6 (its faults).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from lxml.etree import QName, _Element

SOAP: Final = "http://www.w3.org/2003/05/soap-envelope"
SOAP_1_1: Final = "http://schemas.xmlsoap.org/soap/envelope/"
WSA: Final = "http://www.w3.org/2005/08/addressing"
WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
FAULT_DETAIL: Final = "urn:toimik:fault"

CONTENT_TYPE: Final = "application/soap+xml; charset=UTF-8"
CONTENT_TYPE_1_1: Final = "text/xml; charset=UTF-8"

ANONYMOUS: Final = f"{WSA}/anonymous"
ADDRESSING_FAULT_ACTION: Final = f"{WSA}/fault"
SOAP_FAULT_ACTION: Final = f"{WSA}/soap/fault"

ACTION_NOT_SUPPORTED: Final = f"{{{WSA}}}ActionNotSupported"
ACTION_MISMATCH: Final = f"{{{WSA}}}ActionMismatch"
INVALID_ADDRESSING_HEADER: Final = f"{{{WSA}}}InvalidAddressingHeader"
INVALID_CARDINALITY: Final = f"{{{WSA}}}InvalidCardinality"
MESSAGE_ADDRESSING_HEADER_REQUIRED: Final = f"{{{WSA}}}MessageAddressingHeaderRequired"

_ENVELOPE: Final = f"{{{SOAP}}}Envelope"
_HEADER: Final = f"{{{SOAP}}}Header"
_BODY: Final = f"{{{SOAP}}}Body"
_FAULT: Final = f"{{{SOAP}}}Fault"
_CODE: Final = f"{{{SOAP}}}Code"
_CODE_VALUE: Final = f"{{{SOAP}}}Value"
_REASON: Final = f"{{{SOAP}}}Reason"
_REASON_TEXT: Final = f"{{{SOAP}}}Text"
_DETAIL: Final = f"{{{SOAP}}}Detail"
_MUST_UNDERSTAND: Final = f"{{{SOAP}}}mustUnderstand"
_ROLE: Final = f"{{{SOAP}}}role"

# Headers with another role are meant for somebody on the way (SOAP 1.2 part 1, section 2.2).
_OUR_ROLES: Final = frozenset(("", f"{SOAP}/role/next", f"{SOAP}/role/ultimateReceiver"))
_TRUE: Final = frozenset(("1", "true"))
_FALSE: Final = frozenset(("", "0", "false"))

_ACTION: Final = f"{{{WSA}}}Action"
_MESSAGE_ID: Final = f"{{{WSA}}}MessageID"
_TO: Final = f"{{{WSA}}}To"
_REPLY_TO: Final = f"{{{WSA}}}ReplyTo"
_FAULT_TO: Final = f"{{{WSA}}}FaultTo"
_FROM: Final = f"{{{WSA}}}From"
_RELATES_TO: Final = f"{{{WSA}}}RelatesTo"
_ADDRESS: Final = f"{{{WSA}}}Address"
_SECURITY: Final = f"{{{WSSE}}}Security"

_WSA_NAME: Final = f"{{{WSA}}}"
_AT_MOST_ONCE: Final = frozenset((_ACTION, _MESSAGE_ID, _TO, _REPLY_TO, _FAULT_TO, _FROM))
_UNDERSTOOD: Final = _AT_MOST_ONCE | {_RELATES_TO, _SECURITY}


# ----------------------------------------------------------------------------------------------------------- faults


class FaultCode(StrEnum):
    """The fault codes of SOAP 1.2 (part 1, section 5.4.6) that we give."""

    VERSION_MISMATCH = "VersionMismatch"
    MUST_UNDERSTAND = "MustUnderstand"
    SENDER = "Sender"
    RECEIVER = "Receiver"


# SOAP 1.2 part 2, section 7.5.2.2.
_HTTP_STATUS: Final[Mapping[FaultCode, int]] = MappingProxyType(
    {
        FaultCode.VERSION_MISMATCH: 500,
        FaultCode.MUST_UNDERSTAND: 500,
        FaultCode.SENDER: 400,
        FaultCode.RECEIVER: 500,
    }
)


class SoapFault(Exception):
    """The envelope is broken, or we are: no answer of the transaction's own can be given.

    code            who has to do something about it
    reason          a sentence for whoever reads the fault
    subcodes        `{namespace}local`, each more specific than the one before
    detail          more text, optional
    problem_action  the wsa:Action that a WS-Addressing fault is about
    problem_header  the `{namespace}local` of the header that a WS-Addressing fault is about
    not_understood  the `{namespace}local` of the headers that a MustUnderstand fault is about
    soap_1_1        the request was SOAP 1.1, whose sender can read nothing else
    """

    def __init__(
        self,
        code: FaultCode,
        reason: str,
        *,
        subcodes: Sequence[str] = (),
        detail: str | None = None,
        problem_action: str | None = None,
        problem_header: str | None = None,
        not_understood: Sequence[str] = (),
        soap_1_1: bool = False,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.subcodes = tuple(subcodes)
        self.detail = detail
        self.problem_action = problem_action
        self.problem_header = problem_header
        self.not_understood = tuple(not_understood)
        self.soap_1_1 = soap_1_1

    @property
    def http_status(self) -> int:
        """The status of the HTTP response that carries this fault."""
        return 500 if self.soap_1_1 else _HTTP_STATUS[self.code]

    @property
    def content_type(self) -> str:
        """The Content-Type of fault_envelope(self, ...)."""
        return CONTENT_TYPE_1_1 if self.soap_1_1 else CONTENT_TYPE

    @property
    def action(self) -> str:
        """The wsa:Action of the message that carries this fault."""
        addressing = any(subcode.startswith(f"{{{WSA}}}") for subcode in self.subcodes)
        return ADDRESSING_FAULT_ACTION if addressing else SOAP_FAULT_ACTION


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """A SOAP 1.2 message that can be acted on.

    body           the one element inside of Body
    action         wsa:Action; None where the header is absent
    message_id     wsa:MessageID, to be repeated in wsa:RelatesTo of the answer
    to             wsa:To
    reply_to       the address of wsa:ReplyTo; answers go back on the same connection all the same
    relates_to     wsa:RelatesTo; in an answer, the MessageID of our request
    other_headers  `{namespace}local` of the headers that are not WS-Addressing's, in order
    """

    body: _Element
    action: str | None = None
    message_id: str | None = None
    to: str | None = None
    reply_to: str | None = None
    relates_to: str | None = None
    other_headers: tuple[str, ...] = ()

    @property
    def operation(self) -> str:
        """`{namespace}local` of the body, which says what is asked for."""
        return str(self.body.tag)


def read_envelope(root: _Element) -> Envelope:
    """Take a SOAP 1.2 message apart. Raises SoapFault for one that must not be acted on."""
    _check_version(root)
    header, body = _header_and_body(root)
    addressing, others = _understood_headers(header)
    operation = _elements(body)
    if len(operation) != 1:
        found = ", ".join(str(element.tag) for element in operation[:5]) or "none"
        raise _sender_fault(f"The SOAP Body has to contain exactly one element; it contains {len(operation)}: {found}.")
    reply_to = addressing.get(_REPLY_TO)
    return Envelope(
        body=operation[0],
        action=_value(addressing.get(_ACTION)),
        message_id=_value(addressing.get(_MESSAGE_ID)),
        to=_value(addressing.get(_TO)),
        reply_to=_value(next(reply_to.iterchildren(_ADDRESS), None)) if reply_to is not None else None,
        relates_to=_value(addressing.get(_RELATES_TO)),
        other_headers=others,
    )


def message_id_of(root: _Element) -> str | None:
    """The wsa:MessageID, even of an Envelope that read_envelope refused: the fault should say what it relates to."""
    ids = (_value(block) for header in root.iterchildren(_HEADER) for block in header.iterchildren(_MESSAGE_ID))
    return next(ids, None)


def checked_action(envelope: Envelope, http_action: str | None, expected: Collection[str]) -> str:
    """The action of a request, which has to be one of those its body may come with.

    http_action  of the Content-Type (xds.mtom.action_of); it serves where wsa:Action is absent, and may not differ
    """
    declared = (http_action or "").strip().strip('"')
    if envelope.action and declared and declared != envelope.action:
        raise SoapFault(
            FaultCode.SENDER,
            f"wsa:Action is {envelope.action!r}, but the action parameter of Content-Type is {declared!r}; "
            "they have to be the same, or the parameter left out.",
            subcodes=(INVALID_ADDRESSING_HEADER, ACTION_MISMATCH),
            problem_action=envelope.action,
            problem_header=_ACTION,
        )
    action = envelope.action or declared
    wanted = " or ".join(repr(one) for one in sorted(expected))
    if not action:
        raise SoapFault(
            FaultCode.SENDER,
            f"The message has no wsa:Action header; for {envelope.operation} it has to be {wanted}.",
            subcodes=(MESSAGE_ADDRESSING_HEADER_REQUIRED,),
            problem_header=_ACTION,
        )
    if action not in expected:
        raise SoapFault(
            FaultCode.SENDER,
            f"The action {action!r} does not go with the body {envelope.operation}; use {wanted}.",
            subcodes=(ACTION_NOT_SUPPORTED,),
            problem_action=action,
        )
    return action


def fault_in(envelope: Envelope) -> SoapFault | None:
    """The fault that another server answered with, or None when it answered with something else."""
    fault = envelope.body
    if fault.tag != _FAULT:
        return None
    values = [_qualified(value) for code in fault.iterchildren(_CODE) for value in code.iter(_CODE_VALUE)]
    texts = [_text(text) for reason in fault.iterchildren(_REASON) for text in reason.iterchildren(_REASON_TEXT)]
    details = [" ".join(_text(detail).split()) for detail in fault.iterchildren(_DETAIL)]
    local_name = values[0].rpartition("}")[2] if values else ""
    # DataEncodingUnknown, the only other code there is, speaks of what we sent.
    code = FaultCode(local_name) if local_name in set(FaultCode) else FaultCode.SENDER
    return SoapFault(
        code,
        texts[0] if texts else "The fault gives no reason.",
        subcodes=values[1:],
        detail=" ".join(details) or None,
    )


def _sender_fault(reason: str) -> SoapFault:
    return SoapFault(FaultCode.SENDER, reason)


def _check_version(root: _Element) -> None:
    if root.tag == _ENVELOPE:
        return
    name = QName(root)
    if name.localname != "Envelope":
        raise _sender_fault(f"The message has to be a SOAP 1.2 Envelope (namespace {SOAP}), but is {name.text}.")
    old = name.namespace == SOAP_1_1
    spoken = "SOAP 1.1" if old else f"an Envelope of the namespace {name.namespace!r}"
    raise SoapFault(
        FaultCode.VERSION_MISMATCH,
        f"The message is {spoken}; send SOAP 1.2 (namespace {SOAP}, Content-Type application/soap+xml).",
        soap_1_1=old,
    )


def _header_and_body(root: _Element) -> tuple[_Element | None, _Element]:
    children = _elements(root)
    header = children[0] if children and children[0].tag == _HEADER else None
    rest = children if header is None else children[1:]
    if len(rest) != 1 or rest[0].tag != _BODY:
        found = ", ".join(str(child.tag) for child in children[:5]) or "nothing"
        raise _sender_fault(f"A SOAP Envelope has to contain an optional Header, then one Body; here it has {found}.")
    return header, rest[0]


def _understood_headers(header: _Element | None) -> tuple[dict[str, _Element], tuple[str, ...]]:
    """The WS-Addressing headers by name, and the names of all others. Of several wsa:RelatesTo the first counts."""
    addressing: dict[str, _Element] = {}
    others: list[str] = []
    not_understood: list[str] = []
    repeated: str | None = None
    for block in _elements(header):
        name = str(block.tag)
        for_us = _is_for_us(block)
        is_addressing = for_us and name.startswith(_WSA_NAME)
        if for_us and (is_addressing or name not in _UNDERSTOOD):
            must_be_understood = _must_be_understood(block)
            if must_be_understood and name not in _UNDERSTOOD:
                not_understood.append(name)
        if is_addressing:
            if name in addressing and name in _AT_MOST_ONCE:
                repeated = repeated or name
            addressing.setdefault(name, block)
        else:
            others.append(name)
    if not_understood:
        raise _not_understood(not_understood)
    if repeated:
        raise SoapFault(
            FaultCode.SENDER,
            f"The header wsa:{QName(repeated).localname} stands there more than once; send it once.",
            subcodes=(INVALID_ADDRESSING_HEADER, INVALID_CARDINALITY),
            problem_header=repeated,
        )
    return addressing, tuple([name for name in others if name not in addressing])


def _is_for_us(block: _Element) -> bool:
    return block.get(_ROLE, "").strip() in _OUR_ROLES


def _must_be_understood(block: _Element) -> bool:
    demand = block.get(_MUST_UNDERSTAND, "").strip()
    if demand in _TRUE:
        return True
    if demand in _FALSE:
        return False
    raise _sender_fault(
        f"mustUnderstand of the header {QName(block).text} has to be 'true' or 'false', not {demand!r}."
    )


def _not_understood(names: Sequence[str]) -> SoapFault:
    return SoapFault(
        FaultCode.MUST_UNDERSTAND,
        f"These headers are marked mustUnderstand, but are not understood here: {', '.join(names)}. "
        f"Understood are those of WS-Addressing ({WSA}) and wsse:Security.",
        not_understood=names,
    )


def _elements(parent: _Element | None) -> list[_Element]:
    """The child elements, without comments and processing instructions."""
    return [] if parent is None else [child for child in parent[:] if isinstance(child.tag, str)]


def _value(element: _Element | None) -> str | None:
    if element is None:
        return None
    return _text(element).strip() or None


def _text(element: _Element) -> str:
    """All the text in it, as XPath counts it: a comment neither ends it nor belongs to it."""
    return element.text or "" if len(element) == 0 else str(element.xpath("string()"))


def _qualified(element: _Element) -> str:
    """The `{namespace}local` that an element's content means."""
    prefix, _, local_name = _text(element).strip().rpartition(":")
    namespace = element.nsmap.get(prefix or None)
    return f"{{{namespace}}}{local_name}" if namespace else local_name


# ---------------------------------------------------------------------------------------------------------- writing

_XML_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_HEAD: Final = f'{_XML_DECLARATION}<s:Envelope xmlns:s="{SOAP}" xmlns:wsa="{WSA}"><s:Header>'
_UNDERSTAND_THIS: Final = ' s:mustUnderstand="1"'
_ENGLISH: Final = ' xml:lang="en"'
ENVELOPE_TAIL: Final = b"</s:Body></s:Envelope>"

# What XML 1.0 has no place for becomes U+FFFD; line ends and tabs survive as references, in attributes as well.
_TO_ESCAPE: Final = re.compile('[&<>"\t\r\n\x00-\x1f\ud800-\udfff\ufffe\uffff]')
_ESCAPED: Final[Mapping[str, str]] = MappingProxyType(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def _escaped(text: str) -> str:
    """Text for an element or for an attribute in double quotes."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPED.get(match[0], "\ufffd"), text)


def _element(name: str, text: str | None, attributes: str = "") -> str:
    return "" if text is None else f"<{name}{attributes}>{_escaped(text)}</{name}>"


def envelope_head(action: str, relates_to: str | None = None, message_id: str | None = None) -> bytes:
    """All that comes before the body of an answer.

    relates_to  the MessageID of the request, where it has one
    """
    return (
        f"{_HEAD}{_element('wsa:Action', action, _UNDERSTAND_THIS)}{_element('wsa:MessageID', message_id)}"
        f"{_element('wsa:RelatesTo', relates_to)}</s:Header><s:Body>"
    ).encode()


def request_head(action: str, to: str, message_id: str) -> bytes:
    """All that comes before the body of a request."""
    return (
        f"{_HEAD}{_element('wsa:To', to, _UNDERSTAND_THIS)}{_element('wsa:Action', action, _UNDERSTAND_THIS)}"
        f"{_element('wsa:MessageID', message_id)}"
        f"<wsa:ReplyTo>{_element('wsa:Address', ANONYMOUS)}</wsa:ReplyTo></s:Header><s:Body>"
    ).encode()


def fault_envelope(fault: SoapFault, relates_to: str | None = None) -> bytes:
    """A fault as a whole message, to be sent with fault.http_status and fault.content_type.

    Its wsa:Action is not marked mustUnderstand: a client without WS-Addressing has to be able to read what is wrong.
    """
    if fault.soap_1_1:
        return _fault_envelope_1_1(fault)
    return (
        f"{_HEAD}{_element('wsa:Action', fault.action)}{_element('wsa:RelatesTo', relates_to)}{_fault_headers(fault)}"
        "</s:Header><s:Body>"
        f"<s:Fault><s:Code><s:Value>s:{fault.code}</s:Value>{_subcodes(fault.subcodes)}</s:Code>"
        f"<s:Reason>{_element('s:Text', fault.reason, _ENGLISH)}</s:Reason>{_detail(fault)}</s:Fault>"
    ).encode() + ENVELOPE_TAIL


def _fault_envelope_1_1(fault: SoapFault) -> bytes:
    """A SOAP 1.1 sender is told in SOAP 1.1 to use SOAP 1.2 (SOAP 1.2 part 1, appendix A)."""
    return (
        f'{_XML_DECLARATION}<e:Envelope xmlns:e="{SOAP_1_1}" xmlns:s="{SOAP}">'
        f"<e:Header>{_fault_headers(fault)}</e:Header><e:Body>"
        f"<e:Fault><faultcode>e:{fault.code}</faultcode>{_element('faultstring', fault.reason)}</e:Fault>"
        "</e:Body></e:Envelope>"
    ).encode()


def _fault_headers(fault: SoapFault) -> str:
    if fault.code is FaultCode.VERSION_MISMATCH:
        return '<s:Upgrade><s:SupportedEnvelope qname="s:Envelope"/></s:Upgrade>'
    names = (_name(name) for name in fault.not_understood)
    return "".join(f'<s:NotUnderstood qname="{name}"{scope}/>' for name, scope in names)


def _subcodes(names: Sequence[str]) -> str:
    if not names:
        return ""
    name, scope = _name(names[0])
    return f"<s:Subcode><s:Value{scope}>{name}</s:Value>{_subcodes(names[1:])}</s:Subcode>"


def _detail(fault: SoapFault) -> str:
    blocks = []
    if fault.problem_header:
        name, scope = _name(fault.problem_header)
        blocks.append(f"<wsa:ProblemHeaderQName{scope}>{name}</wsa:ProblemHeaderQName>")
    if fault.problem_action:
        blocks.append(f"<wsa:ProblemAction>{_element('wsa:Action', fault.problem_action)}</wsa:ProblemAction>")
    if fault.detail:
        blocks.append(_element("detail", fault.detail, f' xmlns="{FAULT_DETAIL}"'))
    return f"<s:Detail>{''.join(blocks)}</s:Detail>" if blocks else ""


_PREFIXES: Final[Mapping[str, str]] = MappingProxyType({SOAP: "s", WSA: "wsa"})


def _name(name: str) -> tuple[str, str]:
    """How a `{namespace}local` is written as content, and the declaration that has to go with it, if any."""
    namespace, _, local_name = name.rpartition("}")
    namespace = namespace.removeprefix("{")
    if not namespace:
        return _escaped(local_name), ""
    prefix = _PREFIXES.get(namespace)
    if prefix:
        return f"{prefix}:{_escaped(local_name)}", ""
    return f"q:{_escaped(local_name)}", f' xmlns:q="{_escaped(namespace)}"'

"""What the envelope promises: SOAP 1.2 and WS-Addressing are read to the letter, and nobody writes into ours."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element

from xds.soap import (
    ACTION_MISMATCH,
    ACTION_NOT_SUPPORTED,
    ADDRESSING_FAULT_ACTION,
    ANONYMOUS,
    ENVELOPE_TAIL,
    FAULT_DETAIL,
    INVALID_ADDRESSING_HEADER,
    INVALID_CARDINALITY,
    MESSAGE_ADDRESSING_HEADER_REQUIRED,
    SOAP,
    SOAP_1_1,
    SOAP_FAULT_ACTION,
    WSA,
    WSSE,
    Envelope,
    FaultCode,
    SoapFault,
    checked_action,
    envelope_head,
    fault_envelope,
    fault_in,
    message_id_of,
    read_envelope,
    request_head,
)

ACTION: Final = "urn:ihe:iti:2007:RegistryStoredQuery"
HEADERS: Final = f"""
    <wsa:Action s:mustUnderstand="true"> {ACTION} </wsa:Action>
    <wsa:MessageID>urn:uuid:1</wsa:MessageID>
    <wsa:To s:mustUnderstand="1">http://localhost/registry</wsa:To>
    <wsa:ReplyTo><wsa:Address>{ANONYMOUS}</wsa:Address></wsa:ReplyTo>"""
ASK: Final = '<q:Ask xmlns:q="urn:q"/>'
WITHIN: Final = {"s": SOAP, "e": SOAP_1_1, "wsa": WSA}


def envelope(headers: str = HEADERS, body: str = ASK) -> _Element:
    return etree.fromstring(
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:wsa="{WSA}" xmlns:f="urn:foreign">'
        f"<s:Header>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )


def fault_of(root: _Element) -> SoapFault:
    with pytest.raises(SoapFault) as caught:
        read_envelope(root)
    return caught.value


def text_at(root: _Element, path: str) -> str | None:
    return root.findtext(path, namespaces=WITHIN)


def name_at(root: _Element, path: str, attribute: str | None = None) -> str:
    """What a name in content means: its prefix has to be declared there."""
    element = root.find(path, WITHIN)
    assert element is not None
    written = element.get(attribute, "") if attribute else element.text or ""
    prefix, _, local_name = written.rpartition(":")
    return f"{{{element.nsmap[prefix]}}}{local_name}"


# ---------------------------------------------------------------------------------------------------------- reading


def test_a_request_is_read_with_its_addressing() -> None:
    read = read_envelope(envelope())

    assert read.operation == "{urn:q}Ask"
    assert read.body.tag == "{urn:q}Ask"
    assert read.action == ACTION
    assert read.message_id == "urn:uuid:1"
    assert read.to == "http://localhost/registry"
    assert read.reply_to == ANONYMOUS
    assert read.relates_to is None
    assert read.other_headers == ()


def test_addressing_is_not_required() -> None:
    root = etree.fromstring(f'<Envelope xmlns="{SOAP}"><Body><Ask xmlns="urn:q"/></Body></Envelope>')

    read = read_envelope(root)

    assert (read.action, read.message_id, read.to, read.reply_to) == (None, None, None, None)


def test_comments_and_instructions_do_not_count() -> None:
    root = envelope(
        f"<!-- a --><wsa:Action>{ACTION[:9]}<!-- b -->{ACTION[9:]}</wsa:Action><wsa:MessageID/>",
        f"<!-- c -->{ASK}<?d e?>",
    )

    read = read_envelope(root)

    assert (read.operation, read.action, read.message_id) == ("{urn:q}Ask", ACTION, None)


def test_foreign_headers_are_passed_over_and_named() -> None:
    read = read_envelope(envelope(HEADERS + '<f:A/><f:B s:mustUnderstand="0"/><C/>'))

    assert read.other_headers == ("{urn:foreign}A", "{urn:foreign}B", "C")


@pytest.mark.parametrize("demand", ["1", "true", " true "])
def test_a_header_that_must_be_understood_and_is_not_is_named(demand: str) -> None:
    fault = fault_of(envelope(f'{HEADERS}<f:A s:mustUnderstand="{demand}"/><f:B s:mustUnderstand="{demand}"/><f:C/>'))

    assert fault.code is FaultCode.MUST_UNDERSTAND
    assert fault.not_understood == ("{urn:foreign}A", "{urn:foreign}B")
    assert "{urn:foreign}A, {urn:foreign}B" in fault.reason
    assert fault.http_status == 500


def test_ws_security_is_understood() -> None:
    security = f'<wsse:Security xmlns:wsse="{WSSE}" s:mustUnderstand="true"/>'

    assert read_envelope(envelope(HEADERS + security)).other_headers == (f"{{{WSSE}}}Security",)


def test_a_header_of_another_ws_addressing_is_not_understood() -> None:
    old = "http://schemas.xmlsoap.org/ws/2004/08/addressing"

    fault = fault_of(envelope(f'<a:Action xmlns:a="{old}" s:mustUnderstand="1">{ACTION}</a:Action>'))

    assert fault.not_understood == (f"{{{old}}}Action",)


@pytest.mark.parametrize("role", [f"{SOAP}/role/none", "urn:somebody-else"])
def test_headers_for_others_are_no_concern_of_ours(role: str) -> None:
    others = f'<f:A s:mustUnderstand="1" s:role="{role}"/><wsa:Action s:role="{role}">urn:other</wsa:Action>'

    assert read_envelope(envelope(HEADERS + others)).action == ACTION


@pytest.mark.parametrize("role", ["", f"{SOAP}/role/next", f"{SOAP}/role/ultimateReceiver"])
def test_headers_for_the_next_and_the_last_receiver_are_ours(role: str) -> None:
    fault = fault_of(envelope(f'<f:A s:mustUnderstand="1" s:role="{role}"/>'))

    assert fault.not_understood == ("{urn:foreign}A",)


def test_an_unclear_must_understand_is_refused() -> None:
    fault = fault_of(envelope('<f:A s:mustUnderstand="yes"/>'))

    assert fault.code is FaultCode.SENDER
    assert "{urn:foreign}A" in fault.reason
    assert "'yes'" in fault.reason


@pytest.mark.parametrize("name", ["Action", "MessageID", "To", "ReplyTo", "FaultTo", "From"])
def test_an_addressing_header_stands_there_once(name: str) -> None:
    fault = fault_of(envelope(f"<wsa:{name}>urn:a</wsa:{name}>" * 2))

    assert fault.subcodes == (INVALID_ADDRESSING_HEADER, INVALID_CARDINALITY)
    assert fault.problem_header == f"{{{WSA}}}{name}"
    assert f"wsa:{name}" in fault.reason


def test_an_answer_may_relate_to_several_requests() -> None:
    relations = "<wsa:RelatesTo>urn:a</wsa:RelatesTo><wsa:RelatesTo>urn:b</wsa:RelatesTo>"

    assert read_envelope(envelope(relations)).relates_to == "urn:a"


@pytest.mark.parametrize(
    ("body", "says"),
    [("", "contains 0: none"), ("only text", "contains 0: none"), (ASK + ASK, "contains 2: {urn:q}Ask, {urn:q}Ask")],
)
def test_a_body_contains_exactly_one_element(body: str, says: str) -> None:
    fault = fault_of(envelope(body=body))

    assert fault.code is FaultCode.SENDER
    assert says in fault.reason
    assert fault.http_status == 400


@pytest.mark.parametrize(
    ("children", "says"),
    [
        ("", "nothing"),
        ("<s:Header/>", f"{{{SOAP}}}Header"),
        ("<s:Body/><s:Header/>", f"{{{SOAP}}}Body, {{{SOAP}}}Header"),
        ("<s:Body/><s:Body/>", f"{{{SOAP}}}Body, {{{SOAP}}}Body"),
        ("<s:Header/><s:Header/><s:Body/>", f"{{{SOAP}}}Header, {{{SOAP}}}Header"),
        ('<s:Body/><f:A xmlns:f="urn:foreign"/>', f"{{{SOAP}}}Body, {{urn:foreign}}A"),
        ('<Body xmlns="urn:foreign"/>', "{urn:foreign}Body"),
    ],
)
def test_an_envelope_is_a_header_and_a_body(children: str, says: str) -> None:
    fault = fault_of(etree.fromstring(f'<s:Envelope xmlns:s="{SOAP}">{children}</s:Envelope>'))

    assert fault.code is FaultCode.SENDER
    assert f"here it has {says}" in fault.reason


@pytest.mark.parametrize("message", ["<Ask/>", f'<Body xmlns="{SOAP}"/>', '<Envelop xmlns="urn:q"/>'])
def test_what_is_no_envelope_is_refused(message: str) -> None:
    fault = fault_of(etree.fromstring(message))

    assert fault.code is FaultCode.SENDER
    assert f"SOAP 1.2 Envelope (namespace {SOAP})" in fault.reason


@pytest.mark.parametrize("message", ["<Envelope/>", '<Envelope xmlns="http://www.w3.org/2001/12/soap-envelope"/>'])
def test_an_envelope_of_an_unknown_version_is_a_version_mismatch(message: str) -> None:
    fault = fault_of(etree.fromstring(message))

    assert fault.code is FaultCode.VERSION_MISMATCH
    assert not fault.soap_1_1
    written = etree.fromstring(fault_envelope(fault))
    assert name_at(written, "s:Header/s:Upgrade/s:SupportedEnvelope", "qname") == f"{{{SOAP}}}Envelope"
    assert name_at(written, "s:Body/s:Fault/s:Code/s:Value") == f"{{{SOAP}}}VersionMismatch"


def test_a_soap_1_1_sender_is_told_in_soap_1_1_to_upgrade() -> None:
    fault = fault_of(etree.fromstring(f'<e:Envelope xmlns:e="{SOAP_1_1}"><e:Body/></e:Envelope>'))
    written = etree.fromstring(fault_envelope(fault, "urn:uuid:1"))

    assert (fault.code, fault.http_status) == (FaultCode.VERSION_MISMATCH, 500)
    assert fault.content_type == "text/xml; charset=UTF-8"
    assert written.tag == f"{{{SOAP_1_1}}}Envelope"
    assert name_at(written, "e:Header/s:Upgrade/s:SupportedEnvelope", "qname") == f"{{{SOAP}}}Envelope"
    assert name_at(written, "e:Body/e:Fault/faultcode") == f"{{{SOAP_1_1}}}VersionMismatch"
    assert text_at(written, "e:Body/e:Fault/faultstring") == fault.reason


@pytest.mark.parametrize(
    ("headers", "message_id"),
    [(HEADERS + '<f:A s:mustUnderstand="1"/>', "urn:uuid:1"), ("", None), ("<wsa:MessageID/>", None)],
)
def test_the_message_id_is_known_even_of_a_message_that_is_refused(headers: str, message_id: str | None) -> None:
    assert message_id_of(envelope(headers)) == message_id


# ---------------------------------------------------------------------------------------------------------- actions


@pytest.mark.parametrize(
    ("header", "http_action"), [(ACTION, None), (ACTION, ""), (ACTION, ACTION), (None, ACTION), (None, f' "{ACTION}" ')]
)
def test_the_action_is_taken_from_where_it_stands(header: str | None, http_action: str | None) -> None:
    request = Envelope(envelope(), action=header)

    assert checked_action(request, http_action, (ACTION, "urn:other")) == ACTION


def action_fault(header: str | None, http_action: str | None) -> SoapFault:
    with pytest.raises(SoapFault) as caught:
        checked_action(Envelope(envelope(), action=header), http_action, [ACTION])
    assert caught.value.code is FaultCode.SENDER
    assert caught.value.action == ADDRESSING_FAULT_ACTION
    return caught.value


def test_two_different_actions_are_a_mismatch_that_names_both() -> None:
    fault = action_fault(ACTION, "urn:other")

    assert fault.subcodes == (INVALID_ADDRESSING_HEADER, ACTION_MISMATCH)
    assert repr(ACTION) in fault.reason
    assert "'urn:other'" in fault.reason


@pytest.mark.parametrize(("header", "http_action"), [("urn:other", None), (None, "urn:other")])
def test_an_action_of_another_body_is_not_supported(header: str | None, http_action: str | None) -> None:
    fault = action_fault(header, http_action)

    assert fault.subcodes == (ACTION_NOT_SUPPORTED,)
    assert fault.problem_action == "urn:other"
    assert repr(ACTION) in fault.reason
    assert f"{{{SOAP}}}Envelope" in fault.reason


@pytest.mark.parametrize("http_action", [None, "", '""'])
def test_a_message_without_any_action_is_told_which_one_it_needs(http_action: str | None) -> None:
    fault = action_fault(None, http_action)

    assert fault.subcodes == (MESSAGE_ADDRESSING_HEADER_REQUIRED,)
    assert fault.problem_header == f"{{{WSA}}}Action"
    assert repr(ACTION) in fault.reason


# ---------------------------------------------------------------------------------------------------------- writing


def test_an_answer_says_what_it_is_and_relates_to() -> None:
    written = etree.fromstring(envelope_head("urn:answer", "urn:uuid:1", "urn:uuid:2") + ASK.encode() + ENVELOPE_TAIL)

    read = read_envelope(written)
    assert (read.action, read.relates_to, read.message_id) == ("urn:answer", "urn:uuid:1", "urn:uuid:2")
    assert read.operation == "{urn:q}Ask"
    action = written.find("s:Header/wsa:Action", WITHIN)
    assert action is not None
    assert action.get(f"{{{SOAP}}}mustUnderstand") == "1"


def test_an_answer_to_a_message_without_message_id_relates_to_nothing() -> None:
    assert b"RelatesTo" not in envelope_head("urn:answer", None)
    assert b"MessageID" not in envelope_head("urn:answer", None)


def test_a_request_is_addressed_and_awaits_its_answer_on_the_same_connection() -> None:
    written = request_head(ACTION, "http://localhost/registry?a=1&b=2", "urn:uuid:1") + ASK.encode() + ENVELOPE_TAIL

    read = read_envelope(etree.fromstring(written))

    assert checked_action(read, ACTION, [ACTION]) == ACTION
    assert (read.to, read.message_id) == ("http://localhost/registry?a=1&b=2", "urn:uuid:1")
    assert read.reply_to == ANONYMOUS


def test_prefixes_are_stable() -> None:
    assert b"<s:Envelope " in envelope_head("urn:answer")
    assert b"<wsa:Action " in envelope_head("urn:answer")


def test_a_fault_is_written_with_all_it_says() -> None:
    fault = SoapFault(
        FaultCode.SENDER,
        "No & <no>.",
        subcodes=(INVALID_ADDRESSING_HEADER, "{urn:x}Y"),
        detail="More\nof it.",
        problem_action="urn:a",
        problem_header="{urn:h}H",
    )

    written = etree.fromstring(fault_envelope(fault, "urn:uuid:1"))

    assert text_at(written, "s:Header/wsa:Action") == ADDRESSING_FAULT_ACTION
    assert text_at(written, "s:Header/wsa:RelatesTo") == "urn:uuid:1"
    at = "s:Body/s:Fault/"
    assert name_at(written, at + "s:Code/s:Value") == f"{{{SOAP}}}Sender"
    assert name_at(written, at + "s:Code/s:Subcode/s:Value") == INVALID_ADDRESSING_HEADER
    assert name_at(written, at + "s:Code/s:Subcode/s:Subcode/s:Value") == "{urn:x}Y"
    assert text_at(written, at + "s:Reason/s:Text") == "No & <no>."
    text = written.find(at + "s:Reason/s:Text", WITHIN)
    assert text is not None
    assert text.get("{http://www.w3.org/XML/1998/namespace}lang") == "en"
    assert text_at(written, at + "s:Detail/wsa:ProblemAction/wsa:Action") == "urn:a"
    assert name_at(written, at + "s:Detail/wsa:ProblemHeaderQName") == "{urn:h}H"
    assert text_at(written, at + "s:Detail/{urn:toimik:fault}detail") == "More\nof it."


def test_a_fault_of_ours_has_no_detail_and_the_soap_fault_action() -> None:
    fault = SoapFault(FaultCode.RECEIVER, "We could not.")
    written = etree.fromstring(fault_envelope(fault))

    assert (fault.http_status, fault.content_type) == (500, "application/soap+xml; charset=UTF-8")
    assert text_at(written, "s:Header/wsa:Action") == SOAP_FAULT_ACTION
    assert written.find(".//s:Detail", WITHIN) is None


def test_a_must_understand_fault_names_each_header_in_a_block() -> None:
    fault = fault_of(envelope('<f:A s:mustUnderstand="1"/><B s:mustUnderstand="1"/>'))
    written = etree.fromstring(fault_envelope(fault))

    first, second = written.findall("s:Header/s:NotUnderstood", WITHIN)
    assert name_at(first, ".", "qname") == "{urn:foreign}A"
    assert second.get("qname") == "B"
    assert text_at(written, "s:Header/wsa:Action") == SOAP_FAULT_ACTION


def test_a_client_without_ws_addressing_can_read_our_faults() -> None:
    fault = action_fault(None, None)

    assert b"mustUnderstand=" not in fault_envelope(fault)


@pytest.mark.parametrize("code", list(FaultCode))
def test_a_client_of_ours_reads_the_fault_another_server_answers(code: FaultCode) -> None:
    fault = SoapFault(code, "No.", subcodes=(INVALID_ADDRESSING_HEADER, "{urn:x}Y"), detail="More.")

    answered = fault_in(read_envelope(etree.fromstring(fault_envelope(fault))))

    assert answered is not None
    assert (answered.code, answered.reason, answered.subcodes, answered.detail) == (
        fault.code,
        "No.",
        fault.subcodes,
        "More.",
    )


def test_a_fault_that_says_nothing_is_still_a_fault() -> None:
    answered = fault_in(read_envelope(envelope(body="<s:Fault/>")))

    assert answered is not None
    assert answered.reason == "The fault gives no reason."


def test_an_answer_that_is_no_fault_has_none() -> None:
    assert fault_in(read_envelope(envelope())) is None


# Anything, as long as it is more likely than not to break out of where it is put.
TEXTS: Final = st.lists(
    st.sampled_from(
        ["<", ">", "&", '"', "'", "]]>", "<!--", "&amp;", "</s:Header>", "\x00", "\ud800", "\r", "\n", "\t"]
    )
    | st.text(max_size=5),
    max_size=8,
).map("".join)


def as_xml_can_say(text: str) -> str:
    allowed = (
        character in "\t\n\r"
        or "\x20" <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character > "\uffff"
        for character in text
    )
    return "".join(character if may_stand else "\ufffd" for character, may_stand in zip(text, allowed, strict=True))


@given(TEXTS, TEXTS, TEXTS)
def test_nothing_breaks_out_of_a_head(action: str, relates_to: str, message_id: str) -> None:
    for head, names in (
        (envelope_head(action, relates_to, message_id), ("Action", "RelatesTo", "MessageID")),
        (request_head(action, relates_to, message_id), ("Action", "To", "MessageID")),
    ):
        written = etree.fromstring(head + ASK.encode() + ENVELOPE_TAIL)

        assert [child.tag for child in written] == [f"{{{SOAP}}}Header", f"{{{SOAP}}}Body"]
        for name, value in zip(names, (action, relates_to, message_id), strict=True):
            (element,) = written.findall(f"s:Header/wsa:{name}", WITHIN)
            assert (element.text or "") == as_xml_can_say(value)
            assert len(element) == 0


@given(TEXTS, TEXTS, TEXTS, TEXTS, st.booleans())
def test_nothing_breaks_out_of_a_fault(reason: str, detail: str, name: str, relates_to: str, soap_1_1: bool) -> None:
    local_name = name.replace("}", "")  # the last brace ends a namespace, and none that XML allows has one inside
    fault = SoapFault(
        FaultCode.MUST_UNDERSTAND,
        reason,
        detail=detail,
        problem_action=detail,
        subcodes=[f"{{urn:a&b}}{local_name}"],
        not_understood=[f"{{urn:a&b}}{local_name}"],
        soap_1_1=soap_1_1,
    )

    written = etree.fromstring(fault_envelope(fault, relates_to))

    namespaces = {etree.QName(element).namespace for element in written.iter()}
    assert len(written) == 2
    assert namespaces <= {SOAP, SOAP_1_1, WSA, FAULT_DETAIL, None}
    found = text_at(written, ".//faultstring" if soap_1_1 else ".//s:Reason/s:Text")
    assert (found or "") == as_xml_can_say(reason)

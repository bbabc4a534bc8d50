"""The one XML parser and the judgement by schema: what gets through, and how a refusal reads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from xds.xml import Schema, XmlLimits, XmlProblem, parse, prefixed, validate

LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"


def refusal(data: bytes, limits: XmlLimits | None = None) -> XmlProblem:
    with pytest.raises(XmlProblem) as caught:
        parse(data, limits or XmlLimits())
    return caught.value


# What gets through


@pytest.mark.parametrize(
    "data",
    [
        b"<a>\xc3\xa4</a>",
        b'<?xml version="1.0"?><a>\xc3\xa4</a>',
        b'<?xml version="1.0" encoding="utf-8" standalone="yes"?>\r\n<a>\xc3\xa4</a>\r\n',
        b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?><a>\xc3\xa4</a>",
        '<?xml version="1.0" encoding="UTF-16"?><a>ä</a>'.encode("utf-16"),
        "\ufeff<a>ä</a>".encode("utf-16-be"),
        "<a>ä</a>".encode("utf-16-le"),
        "<a>ä</a>".encode("utf-16-be"),
        b"<a>&#xE4;</a>",
        b"<a><![CDATA[\xc3\xa4]]></a>",
    ],
)
def test_utf_8_and_utf_16_are_read_with_and_without_byte_order_mark(data: bytes) -> None:
    assert parse(data).text == "ä"


def test_the_bytes_decide_the_encoding_where_a_declaration_says_utf_16_of_utf_8() -> None:
    assert parse(b'<?xml version="1.0" encoding="utf-16"?><a>\xc3\xa4</a>').text == "ä"


def test_comments_and_processing_instructions_are_dropped() -> None:
    root = parse(b"<!-- before --><?before x?><a>on<!-- within --><?within x?>e</a><!-- after -->")
    assert (root.text, len(root), root.getprevious()) == ("one", 0, None)


def test_text_that_only_looks_like_a_document_type_is_read() -> None:
    assert parse(b"<!-- <!DOCTYPE a> --><a><![CDATA[<!DOCTYPE a>]]></a>").text == "<!DOCTYPE a>"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")))
def test_any_text_is_read_as_it_was_written(text: str) -> None:
    element = etree.Element("a")
    element.text = text
    for encoding in ("utf-8", "utf-16"):
        assert (parse(etree.tostring(element, encoding=encoding)).text or "") == text


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"<a>" + data + b"</a>"))
def test_any_bytes_are_read_or_refused_with_a_sentence(data: bytes) -> None:
    try:
        outcome = str(parse(data).tag)
    except XmlProblem as problem:
        outcome = problem.sentence
    assert outcome


def test_a_submission_of_three_thousand_entries_is_within_the_limits() -> None:
    slot = b'<r:Slot name="creationTime"><r:ValueList><r:Value>20240229120000</r:Value></r:ValueList></r:Slot>'
    entry = b'<r:ExtrinsicObject id="e">' + slot * 46 + b"</r:ExtrinsicObject>"  # 139 elements
    root = parse(b'<r:RegistryObjectList xmlns:r="urn:r">' + entry * 3000 + b"</r:RegistryObjectList>")
    assert len(root) == 3000


# What is refused


@pytest.mark.parametrize(
    "declaration",
    [
        b"<!DOCTYPE a>",
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
        b'<!DOCTYPE a [<!ENTITY b "c">]>',
        b"<!-- <a> -->\n<?p?>\n<!DOCTYPE a [<!ATTLIST a b CDATA 'c'>]>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_declaration_is_refused(declaration: bytes, encoding: str) -> None:
    problem = refusal((declaration + b"<a/>").decode().encode(encoding))
    assert "<!DOCTYPE" in problem.sentence
    assert problem.line == declaration.count(b"\n") + 1


def test_a_billion_laughs_are_refused_unread() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    data = f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><a>&l9;</a>'
    assert "document type declaration" in refusal(data.encode()).sentence


def test_an_external_entity_is_refused_and_its_file_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("confidential")
    problem = refusal(f'<!DOCTYPE a [<!ENTITY b SYSTEM "{secret.as_uri()}">]><a>&b;</a>'.encode())
    assert "document type declaration" in problem.sentence
    assert "confidential" not in problem.sentence


def test_an_entity_that_nobody_defined_is_refused() -> None:
    assert "entity &nbsp; is not defined" in refusal(b"<a>&nbsp;</a>").sentence


@pytest.mark.parametrize("depth", [65, 255, 257, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    assert "nested more than 64 deep" in refusal(b"<a>" * depth + b"</a>" * depth).sentence


def test_nesting_up_to_the_limit_is_read() -> None:
    assert sum(1 for _ in parse(b"<a>" * 64 + b"</a>" * 64).iter()) == 64
    assert parse(b"<a><b/></a>", XmlLimits(max_depth=2)).tag == "a"
    assert "more than 1 deep" in refusal(b"<a><b/></a>", XmlLimits(max_depth=1)).sentence


def test_a_depth_that_the_parser_cannot_promise_is_no_limit() -> None:
    with pytest.raises(ValueError, match="256"):
        XmlLimits(max_depth=256)


@pytest.mark.parametrize("attribute", ['a{}="&gt;"', "xmlns:n{} = 'urn:n'", 'a{}\n="{}"'])
def test_a_flood_of_attributes_or_namespaces_is_refused(attribute: str) -> None:
    def element(count: int) -> bytes:
        attributes = " ".join(attribute.format(n, n) for n in range(count))
        return f"<r>\n<e {attributes}><c/></e></r>".encode()

    assert parse(element(128))[0].tag == "e"
    problem = refusal(element(129))
    assert problem.sentence == ("line 2, column 1: element e has more than 128 attributes and namespace declarations")


def test_long_texts_and_values_are_not_taken_for_attributes() -> None:
    data = b'<a b="%s">%s<![CDATA[%s]]></a>' % (b"x=1 " * 500, b" y='2'" * 500, b' z="3"' * 500)
    assert parse(data, XmlLimits(max_attributes=1)).get("b") == "x=1 " * 500


def test_a_flood_of_elements_is_refused_before_it_is_read() -> None:
    assert len(parse(b"<a>" + b"<b/>" * 9 + b"</a>", XmlLimits(max_elements=10))) == 9
    problem = refusal(b"<a>" + b"<b/>" * 10 + b"</a", XmlLimits(max_elements=10))
    assert problem.sentence == "the message has 11 elements; 10 are accepted"


def test_a_message_beyond_the_size_is_refused() -> None:
    assert parse(b"<aaaaaa/>", XmlLimits(max_bytes=9)).tag == "aaaaaa"
    problem = refusal(b"<aaaaaaa/>", XmlLimits(max_bytes=9))
    assert problem.sentence == "the message has 10 bytes of XML; 9 are accepted"


def test_a_text_of_more_than_ten_million_characters_is_sent_to_mtom() -> None:
    assert "send documents as MTOM parts" in refusal(b"<a>" + b"x" * 10_000_001 + b"</a>").sentence


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"<a>\n <b>\xff</b></a>", 2, 5),
        (b'<a b="\xc3("/>', 1, 7),
        (b"<a>\xed\xa0\x80</a>", 1, 4),
    ],
)
def test_bytes_that_are_not_utf_8_are_refused_with_their_place(data: bytes, line: int, column: int) -> None:
    problem = refusal(data)
    assert "is not UTF-8" in problem.sentence
    assert (problem.line, problem.column) == (line, column)


def test_half_a_utf_16_character_is_refused() -> None:
    assert "is not UTF-16" in refusal("<a/>".encode("utf-16")[:-1]).sentence


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "UTF-7", "EBCDIC-CP-BE"])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    problem = refusal(f'<?xml version="1.0" encoding="{encoding}"?><a/>'.encode())
    assert f"encoding {encoding} is not accepted" in problem.sentence


def test_utf_32_is_refused() -> None:
    refusal("<a/>".encode("utf-32"))
    refusal("<a/>".encode("utf-32-be"))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 1),
        (b"hello", 1),
        (b"<a>\n<b>", 2),
        (b"<a>\n<b></a>", 2),
        (b"<a>\n</a><b/>", 2),
        (b"<a>\n\0</a>", 2),
        (b"<a b='\0'/>", 1),
        (b"<a>\n&#0;</a>", 2),
        (b"<a>\x01</a>", 1),
        (b"<a>\n<x:b/></a>", 2),
        (b"<a b='1' b='2'/>", 1),
    ],
)
def test_what_is_not_well_formed_is_refused_with_its_place(data: bytes, line: int) -> None:
    problem = refusal(data)
    assert problem.sentence.startswith(f"line {line}, column {problem.column}: not well-formed XML: ")
    assert problem.line == line


def test_a_refusal_does_not_repeat_a_long_message() -> None:
    assert len(refusal(b"<" + b"a" * 5000 + b"></b>").sentence) < 1000


# Validation


def submission(content: str) -> etree._Element:
    envelope = (
        '<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope" '
        f'xmlns:r="{RIM}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soap:Body>\n'
        f'<SubmitObjectsRequest xmlns="{LCM}"><r:RegistryObjectList>\n'
        f"{content}"
        "</r:RegistryObjectList></SubmitObjectsRequest></soap:Body></soap:Envelope>"
    )
    return parse(envelope.encode())[0][0]


def objection(element: etree._Element, schema: Schema = Schema.SUBMIT_OBJECTS_REQUEST) -> str:
    with pytest.raises(XmlProblem) as caught:
        validate(element, schema)
    return caught.value.sentence


LIST = "lcm:SubmitObjectsRequest/rim:RegistryObjectList"


def test_a_message_in_order_passes_within_its_envelope() -> None:
    element = submission('<r:ExtrinsicObject id="a" xsi:type="r:ExtrinsicObjectType"/>')
    validate(element, Schema.of(element))
    assert element.getparent() is not None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            '<r:ExtrinsicObject id="Document01">\n'
            '<r:ExternalIdentifier id="i" registryObject="Document01" identificationScheme="s" value="v"/>\n'
            "<r:Name/></r:ExtrinsicObject>",
            f"{LIST}/rim:ExtrinsicObject (line 5, id Document01): element rim:Name is not expected here; "
            "expected is one of rim:ExternalIdentifier, rim:ContentVersionInfo",
        ),
        (
            '<r:ObjectRef id="a"/>\n<r:Slot name="s"><r:ValueList/></r:Slot>',
            f"{LIST} (line 4): element rim:Slot is not expected here",
        ),
        (
            '<r:ExtrinsicObject id="a"/>\n<r:ExtrinsicObject id="b">\n<r:Slot name="s"/></r:ExtrinsicObject>',
            f"{LIST}/rim:ExtrinsicObject[2]/rim:Slot (line 5): element rim:ValueList is missing",
        ),
        (
            '<r:Association id="a" sourceObject="b" targetObject="c"/>',
            f"{LIST}/rim:Association (line 3, id a): attribute associationType is required and missing",
        ),
        (
            '<r:RegistryPackage id="a"/><r:RegistryPackage id="b" patientId="1"/>',
            f"{LIST}/rim:RegistryPackage[2] (line 3, id b): attribute patientId is not allowed",
        ),
        (
            '<r:ExtrinsicObject id="a" isOpaque="perhaps"/>',
            f"{LIST}/rim:ExtrinsicObject (line 3, id a): attribute isOpaque: 'perhaps' is not a valid value of "
            "the atomic type 'xs:boolean'",
        ),
        (
            "text",
            f"{LIST} (line 2): character content other than whitespace is not allowed because the content "
            "type is 'element-only'",
        ),
    ],
)
def test_a_broken_message_is_refused_with_place_and_expectation(content: str, sentence: str) -> None:
    assert objection(submission(content)) == sentence


def test_a_return_type_that_does_not_exist_is_answered_with_those_that_do() -> None:
    request = f'<q:AdhocQueryRequest xmlns:q="{QUERY}"><q:ResponseOption returnType="Leaf"/></q:AdhocQueryRequest>'
    assert objection(parse(request.encode()), Schema.ADHOC_QUERY_REQUEST) == (
        "query:AdhocQueryRequest/query:ResponseOption (line 1): attribute returnType: the value 'Leaf' is none "
        "of 'LeafClass', 'ObjectRef', 'RegistryObject', 'LeafClassWithRepositoryItem'"
    )


def test_what_the_message_itself_lacks_is_said_of_the_message() -> None:
    request = parse(f'<l:SubmitObjectsRequest xmlns:l="{LCM}">\n</l:SubmitObjectsRequest>'.encode())
    assert objection(request) == (
        "lcm:SubmitObjectsRequest (line 1): an element is missing; expected is one of rs:RequestSlotList, "
        "rim:RegistryObjectList"
    )


def test_another_message_than_expected_is_refused_by_name() -> None:
    assert objection(submission(""), Schema.ADHOC_QUERY_REQUEST) == (
        "lcm:SubmitObjectsRequest (line 2): query:AdhocQueryRequest is expected here"
    )


def test_an_element_that_is_declared_but_no_message_has_no_schema() -> None:
    slot = parse(f'<Slot xmlns="{RIM}" name="s"/>'.encode())
    with pytest.raises(XmlProblem, match=r"^rim:Slot \(line 1\) is no message known here; known are lcm:Submit"):
        Schema.of(slot)


@pytest.mark.parametrize("schema", Schema)
def test_every_schema_has_a_grammar(schema: Schema) -> None:
    message = etree.Element(schema.value, unknown="1")
    assert "attribute unknown is not allowed" in objection(message, schema)


@pytest.mark.parametrize("sound", [0, 990, 5000])
@pytest.mark.parametrize("broken", [1, 5000])
def test_the_first_departure_is_found_among_many(sound: int, broken: int) -> None:
    element = submission('<r:ObjectRef id="ä"/>\n' * sound + "<r:ObjectRef/>" * broken)
    assert objection(element) == (
        f"{LIST}/rim:ObjectRef{f'[{sound + 1}]' if sound or broken > 1 else ''} (line {sound + 3}): "
        "attribute id is required and missing"
    )


def test_a_large_message_in_order_passes() -> None:
    validate(submission('<r:ObjectRef id="a"/>' * 5000), Schema.SUBMIT_OBJECTS_REQUEST)


def test_a_value_of_megabytes_is_not_repeated_in_the_sentence() -> None:
    element = submission(f'<r:ExtrinsicObject id="{"i" * 10_000}" isOpaque="{"x" * 1_000_000}"/>')
    assert len(objection(element)) < 1000


def test_a_schema_that_a_message_recommends_is_not_read(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.xsd"
    foreign.write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:foreign">'
        '<xs:element name="Foreign"/></xs:schema>'
    )
    element = submission(f'<f:Foreign xmlns:f="urn:foreign" xsi:schemaLocation="urn:foreign {foreign.as_uri()}"/>')
    assert "element {urn:foreign}Foreign is not expected here" in objection(element)


def test_threads_judge_at_the_same_time_and_do_not_mix_their_sentences() -> None:
    def judge(number: int) -> bool:
        content = "<r:ObjectRef/>" if number % 2 else f'<r:Association id="a{number}"/>'
        expected = "attribute id is" if number % 2 else f"id a{number}): attribute associationType is"
        return expected in objection(submission(content))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(judge, range(400)))


def test_names_are_shown_with_the_prefixes_that_the_standards_use() -> None:
    assert prefixed(f"{{{RIM}}}Slot and {{urn:other}}Slot") == "rim:Slot and {urn:other}Slot"

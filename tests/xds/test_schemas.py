"""The declared shapes: what they admit and refuse, and how they are served beside the WSDL."""

import copy
import importlib.util
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urljoin

import pytest
import zeep
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from zeep.transports import Transport

import schemas
from xds.transactions import TRANSACTIONS
from xds.xml import Schema, XmlProblem, parse, validate

ROOM = Path(schemas.__file__).parent
SHARED = Path(__file__).parents[3] / "shared"
TESTKIT = SHARED / "nist-testkit"
OFFICIAL = SHARED / "schemas-official"

LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
XDS = "urn:ihe:iti:xds-b:2007"
XOP = "http://www.w3.org/2004/08/xop/include"

bench = pytest.mark.skipif(not SHARED.is_dir(), reason="the reference material in ../shared is absent")


def accepted(message: etree._Element | str) -> bool:
    element = parse(message.encode()) if isinstance(message, str) else message
    try:
        validate(element, Schema.of(element))
    except XmlProblem:
        return False
    return True


# What they admit and refuse


def submission(content: str) -> str:
    return (
        f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns="{RIM}">'
        f"<RegistryObjectList>{content}</RegistryObjectList></lcm:SubmitObjectsRequest>"
    )


def provided(*documents: str) -> str:
    return (
        f'<ProvideAndRegisterDocumentSetRequest xmlns="{XDS}" xmlns:xop="{XOP}">'
        f"{submission('')}{''.join(documents)}</ProvideAndRegisterDocumentSetRequest>"
    )


def test_symbolic_ids_are_legal() -> None:
    assert accepted(submission('<ExtrinsicObject id="Document01" mimeType="text/plain" isOpaque="false"/>'))


def test_every_attribute_that_metadata_needs_is_declared() -> None:
    assert accepted(
        submission(
            '<ExtrinsicObject id="a" lid="b" home="urn:oid:1.2.3" status="urn:x" objectType="urn:y"'
            ' mimeType="text/plain" isOpaque="true"><Slot name="s" slotType="urn:t"><ValueList/></Slot>'
            '<Name><LocalizedString xml:lang="et" charset="UTF-8" value="v"/></Name><Description/>'
            '<VersionInfo versionName="2" comment="c"/></ExtrinsicObject>'
        )
    )


def test_a_value_that_is_too_long_is_left_to_the_metadata_rules() -> None:
    assert accepted(
        submission(
            f'<ExtrinsicObject id="a"><Slot name="{"n" * 300}"><ValueList><Value>{"v" * 300}</Value></ValueList>'
            f'</Slot><Name><LocalizedString value="{"t" * 2000}"/></Name></ExtrinsicObject>'
        )
    )


@pytest.mark.parametrize(
    "content",
    [
        "<ExtrinsicObject/>",
        '<ExtrinsicObject id="a"><Name/><Slot name="s"><ValueList/></Slot></ExtrinsicObject>',
        '<ExtrinsicObject id="a"><Slot name="s"/></ExtrinsicObject>',
        '<ExtrinsicObject id="a"><Slot><ValueList/></Slot></ExtrinsicObject>',
        '<ExtrinsicObject id="a" isOpaque="perhaps"/>',
        '<Association id="a" sourceObject="b" targetObject="c"/>',
        '<Classification id="a"/>',
        '<ExternalIdentifier id="a" registryObject="b" identificationScheme="c"/>',
        '<RegistryPackage id="a" patientId="1"/>',
        '<Document id="a"/>',
        "text",
    ],
)
def test_a_broken_object_is_refused(content: str) -> None:
    assert not accepted(submission(content))


def test_a_document_is_base64_or_an_xop_include_and_has_an_id() -> None:
    assert accepted(provided())
    assert accepted(provided('<Document id="a">aGVsbG8=</Document>'))
    assert accepted(provided('<Document id="a"><xop:Include href="cid:1@x"/></Document>'))
    assert not accepted(provided('<Document><xop:Include href="cid:1@x"/></Document>'))
    assert not accepted(provided('<Document id="a"><xop:Include/></Document>'))
    assert not accepted(provided('<Document id="a"><content/></Document>'))


def test_several_documents_can_be_removed_at_once() -> None:
    one = (
        f'<DocumentRequest xmlns="{XDS}"><RepositoryUniqueId>1</RepositoryUniqueId>'
        "<DocumentUniqueId>2</DocumentUniqueId></DocumentRequest>"
    )
    request = '<r:RemoveDocumentsRequest xmlns:r="urn:ihe:iti:rmd:2017">{}</r:RemoveDocumentsRequest>'
    assert accepted(request.format(one))
    assert accepted(request.format(one + one))
    assert not accepted(request.format(""))


# Against the official schemas


@cache
def official() -> etree.XMLSchema:
    imports = "".join(
        f'<xs:import namespace="{namespace}" schemaLocation="{(OFFICIAL / name).as_uri()}"/>'
        for namespace, name in (
            (LCM, "lcm.xsd"),
            (QUERY, "query.xsd"),
            (XDS, "XDS.b_DocumentRepository.xsd"),
            ("urn:ihe:iti:rmd:2017", "rmd.xsd"),
        )
    )
    return etree.XMLSchema(
        etree.fromstring(f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{imports}</xs:schema>')
    )


@cache
def nist_runner() -> ModuleType:
    """The runner of the NIST cases: it lifts metadata that is still written in ebRS 2.1 to 3.0."""
    specification = importlib.util.spec_from_file_location("nist_testkit_run", TESTKIT / "run.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@cache
def nist_messages() -> tuple[tuple[Path, etree._Element], ...]:
    return tuple(_nist_messages())


def _nist_messages() -> Iterator[tuple[Path, etree._Element]]:
    names = [schema.value for schema in Schema]
    for path in sorted((TESTKIT / "testkit").rglob("*.xml")):
        root = parse(path.read_bytes())
        if root.tag == "{urn:oasis:names:tc:ebxml-regrep:registry:xsd:2.1}SubmitObjectsRequest":
            yield path, parse(etree.tostring(nist_runner().to_submit_objects(root)))
        for element in root.iter(*names):
            if not any(ancestor.tag in names for ancestor in element.iterancestors()):
                yield path, parse(etree.tostring(element, with_tail=False))


@bench
@pytest.mark.bench_shared
def test_every_nist_message_that_the_official_schemas_accept_is_accepted() -> None:
    messages = [(path, message) for path, message in nist_messages() if official().validate(message)]
    assert len({path for path, message in messages if message.tag == f"{{{LCM}}}SubmitObjectsRequest"}) > 150
    assert len({path for path, message in messages if message.tag == f"{{{QUERY}}}AdhocQueryRequest"}) > 120

    assert [str(path) for path, message in messages if not accepted(message)] == []


def break_one_thing(message: etree._Element, choose: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Break one thing, or try to: not every change is forbidden."""
    elements = list(message.iter(etree.Element))[1:]
    element = choose(st.sampled_from(elements))
    parent = element.getparent()
    assert parent is not None
    match choose(st.sampled_from(["remove", "move to the front", "repeat", "rename", "text", "attribute"])):
        case "remove":
            parent.remove(element)
        case "move to the front":
            parent.insert(0, element)
        case "repeat":
            parent.append(copy.deepcopy(element))
        case "rename":
            element.tag = choose(st.sampled_from(elements)).tag
        case "text":
            element.text = "text"
        case "attribute":
            names = [*map(str, element.attrib), "home", "lid", "unknown"]
            name = choose(st.sampled_from(names))
            if name in element.attrib:
                del element.attrib[name]
            else:
                element.set(name, "urn:oid:1.2.3")


@bench
@pytest.mark.bench_shared
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_broken_nist_message_is_judged_as_by_the_official_schemas(data: st.DataObject) -> None:
    _, original = data.draw(st.sampled_from(nist_messages()))
    message = copy.deepcopy(original)
    if len(message) == 0:
        return
    break_one_thing(message, data.draw)
    if message.tag == "{urn:ihe:iti:rmd:2017}RemoveDocumentsRequest":
        return  # the official one is a draft that allows a single document
    assert accepted(message) == official().validate(message), etree.tostring(message).decode()


# On disk


@pytest.mark.parametrize("name", sorted(schemas.xsd_names()))
def test_a_schema_compiles_where_it_lies_on_disk(name: str) -> None:
    etree.XMLSchema(file=str(ROOM / "xsd" / name))


@pytest.mark.parametrize("actor", schemas.WSDL_ACTORS)
def test_a_service_description_names_schemas_that_lie_beside_it(actor: str) -> None:
    wsdl = ROOM / "wsdl" / f"{actor}.wsdl"
    locations = re.findall(r'schemaLocation="([^"]+)"', wsdl.read_text())
    assert locations
    assert all((wsdl.parent / location).is_file() for location in locations)


def test_only_the_schemas_of_the_package_can_be_had() -> None:
    assert schemas.xsd_source("rim.xsd") == (ROOM / "xsd" / "rim.xsd").read_bytes()
    for name in ("../wsdl/registry.wsdl", "/etc/passwd", "rim", ""):
        with pytest.raises(KeyError):
            schemas.xsd(name)
    with pytest.raises(KeyError):
        schemas.wsdl("../xsd/rim", "http://localhost")


# As served


class ServedInMemory(Transport):
    """Answers what an endpoint answers for ?wsdl and ?xsd=name; knows nothing else."""

    def __init__(self, actor: str, address: str, *, relative: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pages = {f"{address}?wsdl": schemas.wsdl(actor, address)}
        for name in schemas.xsd_names():
            self._pages[f"{address}?xsd={name}"] = schemas.xsd(name, "" if relative else address)

    def load(self, url: str) -> bytes:
        return self._pages[url]


def served(actor: str, *, relative: bool = False) -> zeep.Client:
    address = f"https://xds.example/a&b/{actor}"
    transport = ServedInMemory(actor, address, relative=relative)
    return zeep.Client(f"{address}?wsdl", transport=transport)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def registry() -> zeep.Client:
    return served("registry")


@pytest.fixture(scope="module")
def repository() -> zeep.Client:
    return served("repository")


def operations(client: zeep.Client, service: str) -> dict[str, tuple[str, str]]:
    """Per operation: soapAction, and the WS-Addressing action of the request."""
    (port,) = client.wsdl.services[service].ports.values()
    return {
        name: (operation.soapaction, operation.abstract.wsa_action) for name, operation in port.binding.all().items()
    }


def actions_of(actor: str) -> set[str]:
    """The actions of the transactions that an actor answers."""
    return {transaction.action for transaction in TRANSACTIONS if transaction.actor == actor}


def test_a_client_finds_every_transaction_of_a_registry(registry: zeep.Client) -> None:
    found = operations(registry, "DocumentRegistry_Service")

    assert {each[0] for each in found.values()} == actions_of("registry")
    assert all(soap_action == action for soap_action, action in found.values())


def test_a_client_finds_every_transaction_of_a_repository(repository: zeep.Client) -> None:
    found = operations(repository, "DocumentRepository_Service")

    assert {each[0] for each in found.values()} == actions_of("repository")
    assert all(soap_action == action for soap_action, action in found.values())


@pytest.mark.parametrize("actor", schemas.WSDL_ACTORS)
def test_the_description_tells_the_action_of_each_response(actor: str) -> None:
    action = "{http://www.w3.org/2006/05/addressing/wsdl}Action"
    definitions = etree.fromstring(schemas.wsdl(actor, "http://localhost"))
    pairs = [
        (operation[0].get(action), operation[1].get(action))
        for operation in definitions.iterfind("{*}portType/{*}operation")
    ]
    assert {request for request, _ in pairs} == actions_of(actor)
    answered_as = {each.action: each.response_action for each in TRANSACTIONS}
    assert all(response == answered_as[str(request)] for request, response in pairs)


def test_a_client_is_sent_to_the_address_that_served_the_description(registry: zeep.Client) -> None:
    (port,) = registry.wsdl.services["DocumentRegistry_Service"].ports.values()
    assert port.binding_options["address"] == "https://xds.example/a&b/registry"


def test_schemas_that_refer_to_each_other_relatively_are_found_as_well() -> None:
    found = operations(served("repository", relative=True), "DocumentRepository_Service")

    assert len(found) == len(actions_of("repository"))


@pytest.mark.parametrize("address", ["", "https://xds.example/xds/registry"])
@pytest.mark.parametrize("name", sorted(schemas.xsd_names()))
def test_a_served_schema_refers_to_nothing_but_served_schemas(name: str, address: str) -> None:
    base = f"https://xds.example/xds/registry?xsd={name}"
    schema = etree.fromstring(schemas.xsd(name, address))
    for location in schema.xpath("//@schemaLocation"):
        endpoint, _, reference = urljoin(base, location).partition("?xsd=")
        assert endpoint == "https://xds.example/xds/registry"
        assert reference in schemas.xsd_names()


def written(client: zeep.Client, operation: str, **content: Any) -> etree._Element:
    """The body of the message that a client writes for an operation."""
    envelope = client.create_message(client.service, operation, **content)  # type: ignore[no-untyped-call]
    (body,) = envelope.iter("{http://www.w3.org/2003/05/soap-envelope}Body")
    return parse(etree.tostring(body[0]))


def test_a_client_can_write_a_stored_query(registry: zeep.Client) -> None:
    request = written(
        registry,
        "DocumentRegistry_RegistryStoredQuery",
        ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
        AdhocQuery={
            "id": "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
            "Slot": [{"name": "$XDSDocumentEntryPatientId", "ValueList": {"Value": ["'1^^^&1.2.3&ISO'"]}}],
        },
    )
    validate(request, Schema.ADHOC_QUERY_REQUEST)
    assert request.findtext(f".//{{{RIM}}}Slot/{{{RIM}}}ValueList/{{{RIM}}}Value") == "'1^^^&1.2.3&ISO'"


def submission_in_zeep() -> dict[str, Any]:
    return {
        "RegistryObjectList": {
            "_value_1": [
                {"ExtrinsicObject": {"id": "Document01", "mimeType": "text/plain"}},
                {"RegistryPackage": {"id": "SubmissionSet01"}},
            ]
        }
    }


def test_a_client_can_write_a_submission(registry: zeep.Client) -> None:
    request = written(registry, "DocumentRegistry_RegisterDocumentSet-b", **submission_in_zeep())
    validate(request, Schema.SUBMIT_OBJECTS_REQUEST)
    assert [child.get("id") for child in request[0]] == ["Document01", "SubmissionSet01"]


def test_a_client_can_write_a_submission_with_a_document(repository: zeep.Client) -> None:
    request = written(
        repository,
        "DocumentRepository_ProvideAndRegisterDocumentSet-b",
        SubmitObjectsRequest=submission_in_zeep(),
        Document=[{"_value_1": b"hello", "id": "Document01"}],
    )
    validate(request, Schema.PROVIDE_AND_REGISTER_DOCUMENT_SET_REQUEST)
    assert request.findtext(f"{{{XDS}}}Document") == "aGVsbG8="

"""What the References of a submission are to: entries of the Bundle, or objects that are registered already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.domain import MhdDomain
from mhd.mapping.hl7v2_components import URN_OID
from mhd.mapping.identifiers import ENTRY_UUID, URN_UUID, entry_uuid_of, kind_of, unique_id_of
from mhd.mapping.reading import Reading
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.errors import ErrorCode

_REGISTERED: Final = ("DocumentReference/", "List/")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a Reference leads. All None: to nothing that this server can know.

    entry        of the Bundle
    entry_uuid   of a registered object
    unique_id    of a registered document
    """

    entry: BundleEntry | None = None
    entry_uuid: str | None = None
    unique_id: str | None = None

    @property
    def is_known(self) -> bool:
        return bool(self.entry or self.entry_uuid or self.unique_id)


@dataclass(frozen=True, slots=True)
class SentReference:
    """A Reference of a submission to a document or Folder.

    number   of the element that holds it, among its like: relatesTo[number], entry[number]
    code     of a relatesTo; "" for a member
    """

    source: BundleEntry
    path: str
    target: Target
    number: int
    code: str = ""


def target_of(reference: Json, source: BundleEntry, bundle: TransactionBundle, domain: MhdDomain) -> Target:
    """Where a Reference of `source` leads: the literal one, or else the logical one."""
    literal = reference.get("reference")
    if literal is not None:
        entry = bundle.target(literal, source)
        if entry is None:
            return _registered(bundle.absolute(literal, source), domain)
        # The fullUrl of a PATCH stands for what is patched.
        return Target(entry_uuid=own_entry_uuid(entry.url, domain)) if entry.part is Part.PATCH else Target(entry)
    identifier = reference.get("identifier", {})
    value = identifier.get("value", "")
    if kind_of(identifier) == ENTRY_UUID:
        return Target(entry_uuid=entry_uuid_of(value))
    return Target(unique_id=unique_id_of(identifier, domain.code_systems))


def _registered(reference: str, domain: MhdDomain) -> Target:
    if reference.startswith(URN_UUID):
        return Target(entry_uuid=entry_uuid_of(reference))
    if reference.startswith(URN_OID):
        return Target(unique_id=reference.removeprefix(URN_OID))
    return Target(entry_uuid=own_entry_uuid(reference, domain))


def own_entry_uuid(reference: str, domain: MhdDomain) -> str | None:
    """The entryUUID of `DocumentReference/id` or `List/id` of this server, be it relative, absolute or of a version."""
    local = reference.removeprefix(f"{domain.base}/").partition("/_history/")[0]
    kind = next((each for each in _REGISTERED if local.startswith(each)), None)
    return entry_uuid_of(local.removeprefix(kind)) if kind else None


def members_of(entry: BundleEntry, bundle: TransactionBundle, domain: MhdDomain) -> list[SentReference]:
    """What a List holds."""
    return [
        SentReference(
            entry, f"{entry.resource_path}.entry[{number}].item", target_of(each["item"], entry, bundle, domain), number
        )
        for number, each in enumerate(entry.resource.get("entry", ()))
    ]


def relations_of(entry: BundleEntry, bundle: TransactionBundle, domain: MhdDomain) -> list[SentReference]:
    """The documents that a DocumentReference relates to."""
    return [
        SentReference(
            entry,
            f"{entry.resource_path}.relatesTo[{number}].target",
            target_of(each["target"], entry, bundle, domain),
            number,
            each["code"],
        )
        for number, each in enumerate(entry.resource.get("relatesTo", ()))
    ]


# References close ----------------------------------------------------------------------------------------------------

_MEMBERS: Final = {
    Part.SUBMISSION_SET: (Part.DOCUMENT, Part.FOLDER),
    Part.FOLDER: (Part.DOCUMENT,),
}


def judge_references(bundle: TransactionBundle, domain: MhdDomain, reading: Reading) -> None:
    """Every List and relation leads somewhere."""
    for entry in bundle.entries:
        if entry.part in _MEMBERS:
            for member in members_of(entry, bundle, domain):
                _judge(member, _MEMBERS[entry.part], reading)
        if entry.part is Part.DOCUMENT:
            for relation in relations_of(entry, bundle, domain):
                _judge(relation, (Part.DOCUMENT,), reading)


def _judge(sent: SentReference, parts: tuple[Part, ...], reading: Reading) -> None:
    if not sent.target.is_known:
        reading.refuse(
            sent.path,
            "The reference leads neither to an entry of the Bundle nor to an object of this server; send a fullUrl of "
            "the Bundle, DocumentReference/id or List/id, or the identifier. References elsewhere are not followed.",
            IssueType.NOT_FOUND,
            ErrorCode.UNRESOLVED_REFERENCE,
        )
    elif sent.target.entry is not None and sent.target.entry.part not in parts:
        what = sent.target.entry.part or "resource of another kind"
        sentence = f"The reference leads to a {what}; send one to a {' or '.join(parts)}."
        reading.refuse(sent.path, sentence, IssueType.BUSINESS_RULE)

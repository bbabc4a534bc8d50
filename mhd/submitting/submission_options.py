"""What a deployment takes of submissions by FHIR, beyond what every Document Recipient takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from xds.metadata import Code


class Minimal(StrEnum):
    """What becomes of documents with minimal metadata, which lack what XDS requires."""

    REJECT = "reject"
    FILL = "fill"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """Options of the Document Recipient.

    minimal                reject: refused; fill: what lacks is taken from `defaults`; accept: registered as limited
    defaults               by attribute of xds/metadata.py, the codes of documents that have none
    default_language       languageCode of documents that have none; None: it has to be sent
    fhir_documents         Bundles of the type document are taken in place of Binaries
    simplified_publish     ITI-105 is answered
    generate_metadata      ITI-106 is answered
    source_id              sourceId of the SubmissionSets that are made here [ITI-105, ITI-106]
    content_types          contentTypeCode of those SubmissionSets, by the document's classCode as `code^^scheme`;
                           for other classes the classCode itself
    classes                classCode of documents described by ITI-106, by their typeCode as `code^^scheme`
    entries_limit          entries of one Bundle
    document_bytes         octets of one document; None: no limit but the repository's
    """

    minimal: Minimal = Minimal.REJECT
    defaults: Mapping[str, tuple[Code, ...]] = field(default_factory=dict)
    default_language: str | None = None
    fhir_documents: bool = False
    simplified_publish: bool = False
    generate_metadata: bool = False
    source_id: str = "2.25.0"
    content_types: Mapping[str, Code] = field(default_factory=dict)
    classes: Mapping[str, Code] = field(default_factory=dict)
    entries_limit: int = 3000
    document_bytes: int | None = None

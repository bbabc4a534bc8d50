"""Registry Stored Query [ITI-18] and Retrieve Document Set [ITI-43] with zeep, from the server's own ?wsdl.

    pip install zeep
    python examples/python/find_and_retrieve.py http://127.0.0.1:8080 'ID^^^&OID&ISO' DIRECTORY

Finds the approved documents of a patient (FindDocuments), fetches them and saves each under its uniqueId.
"""

# ruff: noqa: T201 - it is a script, and prints

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import zeep

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"


def main(server: str, patient_id: str, directory: Path) -> None:
    entries = found(zeep.Client(f"{server}/xds/registry?wsdl"), patient_id)
    if not entries:
        sys.exit("No documents.")
    repository = zeep.Client(f"{server}/xds/repository?wsdl")
    directory.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        unique_id = next(each.value for each in entry.ExternalIdentifier if each.identificationScheme == UNIQUE_ID)
        (repository_unique_id,) = slot(entry, "repositoryUniqueId")
        retrieved = repository.service.DocumentRepository_RetrieveDocumentSet(
            DocumentRequest=[{"RepositoryUniqueId": repository_unique_id, "DocumentUniqueId": unique_id}]
        )
        checked(retrieved.RegistryResponse)
        (document,) = retrieved.DocumentResponse
        file = directory / unique_id.replace("/", "_")
        file.write_bytes(document.Document)
        print(f"{title(entry)}: {file}, {len(document.Document)} octets")


def found(registry: Any, patient_id: str) -> list[Any]:
    """The DocumentEntries (ExtrinsicObject) of a patient."""
    answer = registry.service.DocumentRegistry_RegistryStoredQuery(
        ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
        AdhocQuery={
            "id": FIND_DOCUMENTS,
            "Slot": [
                {"name": "$XDSDocumentEntryPatientId", "ValueList": {"Value": [f"'{patient_id}'"]}},
                {"name": "$XDSDocumentEntryStatus", "ValueList": {"Value": [f"('{APPROVED}')"]}},
            ],
        },
    )
    checked(answer)
    if answer.RegistryObjectList is None:  # what zeep makes of an empty one
        return []
    # An answer may hold objects of several kinds: zeep gives each as {"ExtrinsicObject": ...}, {"Association": ...}.
    return [each["ExtrinsicObject"] for each in answer.RegistryObjectList["_value_1"]]


def title(entry: Any) -> str:
    """The title, in the first of its languages."""
    return entry.Name.LocalizedString[0].value if entry.Name and entry.Name.LocalizedString else "(no title)"


def slot(entry: Any, name: str) -> list[str]:
    """The values of a Slot."""
    return next((each.ValueList.Value for each in entry.Slot if each.name == name), [])


def checked(response: Any) -> None:
    """End with the errors of an answer that is not a success."""
    if response.status != SUCCESS:
        errors = response.RegistryErrorList.RegistryError if response.RegistryErrorList else []
        sys.exit("\n".join(f"{error.errorCode}: {error.codeContext}" for error in errors) or response.status)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1].rstrip("/"), sys.argv[2], Path(sys.argv[3]))

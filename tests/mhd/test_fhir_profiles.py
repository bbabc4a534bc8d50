"""What the profiles of MHD ask, and how it is told what a resource lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mhd.fhir.canonicals import PROFILE
from mhd.fhir.fhir_json import parsed
from mhd.fhir.fhir_profiles import profile_problems, rows_of
from tests.fhir_definitions import DEFINITIONS
from tests.shared_material import shared

pytestmark = pytest.mark.bench_shared

COMPREHENSIVE = "IHE.MHD.Comprehensive.DocumentReference"


def example(name: str) -> Any:
    return parsed((shared("mhd-examples") / f"{name}.json").read_bytes())


@pytest.mark.parametrize(
    ("name", "path", "issue", "code"),
    [
        ("invalid-14-no-masteridentifier", "masterIdentifier", "required", "XDSRepositoryMetadataError"),
        ("invalid-15-comprehensive-no-facilitytype", "context.facilityType", "required", "XDSRegistryMetadataError"),
        ("invalid-16-docstatus-present", "docStatus", "structure", "XDSRepositoryMetadataError"),
        ("invalid-17-status-entered-in-error", "status", "code-invalid", "XDSRepositoryMetadataError"),
        ("invalid-21-comprehensive-uncontained-author", "author[0]", "structure", "XDSRepositoryMetadataError"),
    ],
)
def test_what_a_profile_forbids_is_told_at_its_place(name: str, path: str, issue: str, code: str) -> None:
    place = "Bundle.entry[1].resource"

    found = profile_problems(example(name)["entry"][1]["resource"], COMPREHENSIVE, place)

    assert [(each.expression, each.code.value, each.xds_code) for each in found] == [(f"{place}.{path}", issue, code)]


def test_inline_data_is_told_beside_the_missing_url() -> None:
    found = profile_problems(example("invalid-19-inline-data-in-iti65")["entry"][1]["resource"], COMPREHENSIVE)

    assert "DocumentReference.content[0].attachment.data" in [each.expression for each in found]


@pytest.mark.parametrize("name", ["valid-01-minimal", "valid-03-comprehensive-full", "valid-06-replace-with-patch",
                                  "valid-04-comprehensive-two-docs-new-folder", "valid-10-uncontained"])  # fmt: skip
def test_what_claims_a_profile_and_meets_it_has_no_problems(name: str) -> None:
    for entry in example(name)["entry"]:
        resource = entry["resource"]
        for profile in resource.get("meta", {}).get("profile", ()):
            if resource["resourceType"] in ("List", "DocumentReference"):
                assert profile_problems(resource, profile.removeprefix(PROFILE)) == []


@pytest.mark.parametrize("name", ["IHE.MHD.Minimal.DocumentReference", COMPREHENSIVE, "IHE.MHD.Minimal.SubmissionSet",
                                  "IHE.MHD.Comprehensive.SubmissionSet", "IHE.MHD.Minimal.Folder",
                                  "IHE.MHD.Comprehensive.Folder"])  # fmt: skip
def test_what_the_profiles_require_and_forbid_is_in_the_table(name: str) -> None:
    shared("mhd-examples")
    published = json.loads((DEFINITIONS / "mhd-4.2.4-constraints.json").read_bytes())["profiles"][f"{PROFILE}{name}"]
    rows = {row.path: row for row in rows_of(name)}
    for rule in published["rules"]:
        path = rule["id"].partition(".")[2]
        if ":" in path or path == "extension":
            continue  # slices: the rows name them by URL
        if rule.get("min", 0) > 0:
            assert rows[path].least > 0, path
        if rule.get("max") == "0":
            assert rows[path].most == 0, path

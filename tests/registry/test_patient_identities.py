"""Which patients the registry knows."""

from __future__ import annotations

from registry.patient_identities import OpenPatients
from xds.hl7v2 import CX


def test_without_authorities_every_well_formed_id_is_known() -> None:
    assert OpenPatients().problem(CX.of("4711", "1.2.3")) is None


def test_an_id_of_a_configured_authority_is_known() -> None:
    assert OpenPatients(frozenset({"1.2.3", "1.2.4"})).problem(CX.of("4711", "1.2.4")) is None


def test_an_id_of_another_authority_is_unknown_and_the_known_ones_are_named() -> None:
    problem = OpenPatients(frozenset({"1.2.3", "1.2.4"})).problem(CX.of("4711", "1.2.5"))

    assert problem == "is of the assigning authority 1.2.5, which is unknown here; send an id of 1.2.3, 1.2.4"


def test_a_malformed_id_names_no_patient() -> None:
    problem = OpenPatients().problem(CX("4711"))

    assert problem is not None
    assert problem.startswith("names no patient: it has no assigning authority")

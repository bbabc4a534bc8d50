"""The affinity domain as the settings describe it: its patients and its codes."""

from __future__ import annotations

from registry.iti64_link_change import LinkChanges
from registry.metadata_store import MetadataStore
from registry.patient_identities import CheckPolicy, FedPatients, NumberCheck, OpenPatients
from registry.patient_register import PatientRegister
from server.code_file import ChangingCodes, code_sets_of
from server.number_checks import number_check
from server.settings import Settings
from server.settings.affinity_domain import AssigningAuthority, PatientPolicy
from xds.metadata import Code, LocalizedString


def known_patients(settings: Settings) -> FedPatients:
    """Which patients objects may be registered for."""
    return FedPatients(_well_formed(settings), required=settings.patients.policy is PatientPolicy.KNOWN)


def patient_register(settings: Settings, store: MetadataStore) -> PatientRegister:
    """What takes what patient identity feeds say."""
    authorities = settings.patients.assigning_authorities
    return PatientRegister(
        store=store,
        well_formed=_well_formed(settings),
        namespaces={authority.namespace_id: authority.oid for authority in authorities if authority.namespace_id},
        required=settings.patients.policy is PatientPolicy.KNOWN,
    )


def link_changes(settings: Settings, register: PatientRegister) -> LinkChanges:
    """What takes changes of patient links [ITI-64]."""
    code, _, scheme = settings.patients.link_change_code.partition("^^")
    display = (LocalizedString("Notify XAD-PID Link Change"),)
    return LinkChanges(
        register=register,
        content_type_code=Code(code, scheme, display),
        home_community_id=settings.home_community_id,
    )


def known_codes(settings: Settings) -> ChangingCodes:
    """The codes that objects may have. Raises SettingsProblem where their file can not be used."""
    return ChangingCodes(code_sets_of(settings.codes), settings.codes_file)


def _well_formed(settings: Settings) -> OpenPatients:
    authorities = settings.patients.assigning_authorities
    return OpenPatients(
        frozenset(authority.oid for authority in authorities),
        {authority.oid: check for authority in authorities if (check := _check(authority)) is not None},
    )


def _check(authority: AssigningAuthority) -> NumberCheck | None:
    if not authority.number:
        return None
    name = f"number of {authority.name or authority.oid} ({authority.number})"
    return NumberCheck(name, number_check(authority.number), CheckPolicy(authority.number_policy.value))

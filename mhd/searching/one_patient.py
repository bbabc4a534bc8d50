"""What there is for somebody who may see one patient alone: every search and read asks a registry through this.

ITI TF-2: 3.72.4.3 (IUA) wants a request to match the patient whom an access token is for; whether the rest is hidden or
refused is a deployment's (ITI TF-2: Appendix Z.7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.mapping.hl7v2_components import URN_OID, unescaped
from mhd.searching.search_conditions import Patients
from xds.hl7v2 import CX, is_oid
from xds.metadata import ObjectKind
from xds.paged_search import Page, PagedRegistry, PagedSearch

_FORBIDDEN: Final = Issue(
    IssueType.FORBIDDEN,
    "This is of another patient than the one whom the access token is for.",
    http=HTTPStatus.FORBIDDEN,
)


@dataclass(frozen=True, slots=True)
class OfOnePatient:
    """A PagedRegistry that has nothing but what belongs to one patient.

    patient_id   CX text
    forbids      whoever asks for what belongs to others is refused (403); else there is no such thing
    """

    registry: PagedRegistry
    patient_id: str
    forbids: bool

    async def page(self, search: PagedSearch) -> Page:
        """See PagedRegistry. Raises Refused (403)."""
        if search.patient_ids and self.patient_id not in search.patient_ids:
            return self._nothing(Page((), more=False, total=None if search.after else 0, as_of=search.as_of or ""))
        page = await self.registry.page(replace(search, patient_ids=(self.patient_id,)))
        if self.forbids and page.total == 0 and not search.patient_ids:
            of_anybody = await self.registry.page(replace(search, limit=1))
            return self._nothing(page) if of_anybody.objects else page
        return page

    def _nothing(self, page: Page) -> Page:
        if self.forbids:
            raise Refused(_FORBIDDEN)
        return page

    async def patient_of(self, patient_key: str) -> str | None:
        """See PagedRegistry. Raises Refused (403)."""
        found = await self.registry.patient_of(patient_key)
        if found in (None, self.patient_id):
            return found
        if self.forbids:
            raise Refused(_FORBIDDEN)
        return None

    async def patient_key(self, patient_id: str) -> str | None:
        return await self.registry.patient_key(patient_id) if patient_id == self.patient_id else None

    async def survivor_of(self, patient_id: str) -> str:
        """The same: under which other id the patient goes on is not his who has a token for this one."""
        return patient_id

    async def related_to(self, entry_uuids: Collection[str]) -> Collection[str]:
        """See PagedRegistry; they are names, and what has them is asked of page()."""
        return await self.registry.related_to(entry_uuids)

    async def relating(self, _patient_ids: Collection[str]) -> Collection[str]:
        """See PagedRegistry; those of the one patient."""
        return await self.registry.relating((self.patient_id,))

    async def removed(self, _entry_uuid: str) -> ObjectKind | None:
        """None: of what was removed nobody can say whose it was."""
        return None

    def secret_for(self, purpose: str) -> bytes:
        return self.registry.secret_for(purpose)


async def patient_of_claims(claims: Iterable[str], patients: Patients) -> str | None:
    """The one patient (CX text) whom all claims of a token name; None: nobody who is known, or several.

    claims   each is CX text, whose authority may be the URI of a system as well, or what Patients.of_reference() takes
    """
    found = {patient.text if (patient := await _patient(each, patients)) else None for each in claims}
    return found.pop() if len(found) == 1 else None


async def _patient(claim: str, patients: Patients) -> CX | None:
    if "^" not in claim:
        return await patients.of_reference(claim)
    sent = CX(claim)
    authority = sent.assigning_authority.universal_id
    system = f"{URN_OID}{authority}" if is_oid(authority) else authority
    return patients.of_identifier(system, unescaped(sent.id_number))

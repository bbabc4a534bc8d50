"""The FHIR resources that a store keeps beside the ebRIM of objects, and the keys that stand for patients in them.

A patient's key is a MAC of the patient id under a secret of the store: always the same, and of no use to whoever does
not have the store. The store keeps the way back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from xds.actors import FhirRenderer, Registration
from xds.metadata import AnyObject, SubmissionSet

SECRET_BYTES: Final = 32
_KEY_DIGITS: Final = 32  # 128 bits


class FhirResources:
    """Makes the resources of one store."""

    def __init__(self, renderer: FhirRenderer | None, secret: bytes) -> None:
        """renderer: None where this registry keeps no FHIR resources."""
        self._renderer = renderer
        self._secret = secret

    @property
    def are_kept(self) -> bool:
        return self._renderer is not None

    def patient_key(self, patient_id: str) -> str:
        """What stands for the patient."""
        return hmac.new(self._secret, patient_id.encode(), hashlib.sha256).hexdigest()[:_KEY_DIGITS]

    def secret_for(self, purpose: str) -> bytes:
        """See MetadataStore."""
        return hmac.new(self._secret, b"purpose " + purpose.encode(), hashlib.sha256).digest()

    def registration(
        self, patient_id: str, time: str, submitted: str | None, *, outdated: bool = False
    ) -> Registration:
        """What is known beside an object that a change of this time brought or revised."""
        return Registration(self.patient_key(patient_id), time, submitted, outdated)

    def of(self, item: AnyObject, registration: Registration) -> bytes | None:
        """The resource of an object; None where there is none to be kept."""
        return None if self._renderer is None else self._renderer.rendered(item, registration)


def submitted(objects: Sequence[AnyObject]) -> str | None:
    """The submissionTime of the SubmissionSet among the objects of a change, 14 digits."""
    for item in objects:
        if isinstance(item, SubmissionSet) and item.submission_time and not item.submission_time.problem():
            return item.submission_time.first
    return None

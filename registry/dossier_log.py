"""The log of a dossier: numbered records, each chained to the one before by its hash.

hash = SHA-256(previous hash, patient, sequence, change id, time, hash of the body), every part preceded by its length.
The hash of a body (registry/change_body.py) is that of its JSON with the SHA-256 of each object in the object's place.
So an object may be blanked (removal of metadata): what is left of the body says the same hash, and the chain verifies.
A body may also be gone as a whole (erasure by law): the chain holds its hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

FIRST_PREVIOUS_HASH = bytes(32)
"""What the first record of a dossier is chained to."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One change of one dossier, as logged.

    sequence        1, 2, 3 ... without gaps within the dossier
    time            UTC, `YYYY-MM-DDThh:mm:ss.ffffffZ`
    body            the change's objects and revisions (registry/change_body.py); None where it was blanked
    body_hash       see above
    """

    patient_id: str
    sequence: int
    change_id: str
    time: str
    body: bytes | None
    body_hash: bytes
    previous_hash: bytes
    hash: bytes

    @classmethod
    def following(
        cls,
        previous_hash: bytes,
        *,
        patient_id: str,
        sequence: int,
        change_id: str,
        time: str,
        body: bytes,
        body_hash: bytes | None = None,
    ) -> LogRecord:
        """The record that comes after the one with `previous_hash`. body_hash: where it was computed before."""
        if body_hash is None:
            body_hash = hash_of(body)
        chained = _chained(previous_hash, patient_id, sequence, change_id, time, body_hash)
        return cls(patient_id, sequence, change_id, time, body, body_hash, previous_hash, chained)

    def problem(self, previous: LogRecord | None) -> str | None:
        """What is wrong with this record coming after `previous` (None: as the dossier's first), in a sentence."""
        return self.problem_after(previous.sequence, previous.hash) if previous else self.problem_after()

    def problem_after(self, sequence: int = 0, previous_hash: bytes = FIRST_PREVIOUS_HASH) -> str | None:
        """What is wrong with this record coming after number `sequence`, which has this hash; 0: as the first."""
        if self.sequence != sequence + 1:
            return f"record {sequence + 1} is missing; the next one there is {self.sequence}"
        if self.previous_hash != previous_hash:
            return f"record {self.sequence} is not chained to the record before it"
        if self.body is not None and hash_of(self.body) != self.body_hash:
            return f"the body of record {self.sequence} was altered"
        chained = _chained(
            self.previous_hash, self.patient_id, self.sequence, self.change_id, self.time, self.body_hash
        )
        if chained != self.hash:
            return f"record {self.sequence} was altered"
        return None


def hash_of(body: bytes) -> bytes:
    """The hash of a body, of whose objects some may be blanked. What is no such body has the hash of its bytes."""
    try:
        content = orjson.loads(body)
        content["objects"] = [
            each["sha256"] if isinstance(each, dict) else hashlib.sha256(each.encode()).hexdigest()
            for each in content["objects"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return hashlib.sha256(body).digest()
    return hashlib.sha256(orjson.dumps(content)).digest()


def _chained(
    previous_hash: bytes, patient_id: str, sequence: int, change_id: str, time: str, body_hash: bytes
) -> bytes:
    chain = hashlib.sha256()
    for part in (previous_hash, patient_id.encode(), b"%d" % sequence, change_id.encode(), time.encode(), body_hash):
        chain.update(b"%d:" % len(part))
        chain.update(part)
    return chain.digest()

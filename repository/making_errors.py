"""What whoever retrieves a document [ITI-43] is told where it could not be made; the log has the rest.

ITI TF-2: 3.43.4.2.2. The sentences have nothing of a patient, and nothing that a source or a registry said.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from repository.on_demand_source import MadeDocument
from xds import metadata_forms as forms
from xds.actors import RegistryResponse
from xds.errors import ErrorCode, XdsError
from xds.metadata import DocumentEntry, DocumentEntryType
from xds.metadata_names import shown
from xds.transactions import ITI_43

logger = logging.getLogger(__name__)

_ASK_LATER: Final = {
    ErrorCode.REGISTRY_BUSY.value: ErrorCode.REPOSITORY_BUSY,
    ErrorCode.REGISTRY_NOT_AVAILABLE.value: ErrorCode.REGISTRY_NOT_AVAILABLE,
}
_TO_CORRECT: Final = "The operator of the repository has to correct its source."


@dataclass(frozen=True, slots=True)
class Told:
    """The errors of one document."""

    entry: DocumentEntry

    @property
    def _is_stable(self) -> bool:
        return self.entry.object_type != DocumentEntryType.ON_DEMAND

    def require_sound(self, made: MadeDocument) -> None:
        """Raises XdsError where what is made is not what the entry promises (ITI TF-2: 3.43.4.2.2)."""
        promised = self.entry.mime_type or ""
        if _media_type(made.mime_type) != _media_type(promised):
            what = f"was made as {shown(made.mime_type)}, and its DocumentEntry says {shown(promised)}. {_TO_CORRECT}"
            raise self.error(ErrorCode.REPOSITORY_ERROR, what)
        if made.unique_id is None:
            return
        its_own = made.unique_id != self.entry.unique_id and not forms.DOCUMENT_UNIQUE_ID.problem(made.unique_id)
        if its_own == self._is_stable:
            wanted = "not that of its DocumentEntry" if self._is_stable else "none of its own"
            what = f"was made with {shown(made.unique_id)} as its uniqueId, which is {wanted}. {_TO_CORRECT}"
            raise self.error(ErrorCode.REPOSITORY_ERROR, what)

    def nothing_there(self) -> XdsError:
        return self.error(
            ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, "can not be made: there is nothing that it could be made of now."
        )

    def unavailable(self) -> XdsError:
        what = "can not be made now: its source does not answer in time. Ask again later."
        return self.error(ErrorCode.REPOSITORY_ERROR, what, for_now=True)

    def too_large(self, size_limit: int) -> XdsError:
        """No code says so: "resources are low" (ITI TF-3: Table 4.2.4.1-2) is what passes, and this does not."""
        what = f"has become larger than {size_limit} octets, the most that its source may make here. {_TO_CORRECT}"
        return self.error(ErrorCode.REPOSITORY_ERROR, what)

    def no_room(self) -> XdsError:
        return self.error(ITI_43.full_code, "can not be made now: there is no room left for it. Ask again later.")

    def failed(self) -> XdsError:
        return self.error(
            ErrorCode.REPOSITORY_ERROR, "could not be made: its source has failed. The repository's log tells more."
        )

    def empty(self) -> XdsError:
        """Of a delayed document: its entry would say for ever that it has yet to be assembled."""
        return self.error(ErrorCode.REPOSITORY_ERROR, f"was made without a single octet. {_TO_CORRECT}")

    def deprecated(self) -> XdsError:
        """Of a delayed document: only Approved entries are updated (docs/adr/0021)."""
        return self.error(
            ErrorCode.DOCUMENT_UNIQUE_ID_ERROR,
            "was not assembled before its DocumentEntry became Deprecated, and the hash of a Deprecated one can not be "
            "updated any more. Retrieve the document that replaced it, or have its status set to Approved (ITI-57).",
        )

    def another_by_now(self) -> XdsError:
        """Of a document that stays elsewhere."""
        what = "is another one by now where it lies: its hash and size are not those of its DocumentEntry."
        return self.error(ErrorCode.REPOSITORY_ERROR, f"{what} {_TO_CORRECT}")

    def wrong_unique_id(self) -> XdsError:
        return self.error(ErrorCode.REPOSITORY_ERROR, f"was made with the uniqueId of other octets. {_TO_CORRECT}")

    def overtaken(self, attempts: int) -> XdsError:
        what = f"was made anew by others {attempts} times while it was to be kept. Ask again later."
        return self.error(ErrorCode.REPOSITORY_BUSY, what)

    def not_kept_now(self) -> XdsError:
        return self.error(ErrorCode.REPOSITORY_BUSY, "can not be kept now. Ask again later.")

    def refused(self, response: RegistryResponse) -> XdsError:
        """The registry's sentences may tell of the patient; its codes do not."""
        codes = [str(error.code) for error in response.errors]
        noticed = {"entry": self.entry.entry_uuid, "codes": codes}
        logger.error("the registry refused what was made of a document", extra=noticed)
        code = next((_ASK_LATER[each] for each in codes if each in _ASK_LATER), ErrorCode.REPOSITORY_ERROR)
        advice = "The repository's log tells more." if code == ErrorCode.REPOSITORY_ERROR else "Ask again later."
        answer = f"the Document Registry answers {', '.join(codes)}"
        return self.error(code, f"was made and can not be kept: {answer}. {advice}")

    def error(self, code: ErrorCode, what: str, *, for_now: bool = False) -> XdsError:
        """what: the end of a sentence that begins with the document. for_now: it may be made later."""
        unique_id = self.entry.unique_id or ""
        stable = "delayed" if self.entry.says_delayed else "linked"
        kind = stable if self._is_stable else "on-demand"
        return XdsError(code, f"The {kind} document {shown(unique_id)} {what}", unique_id, for_now=for_now)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()

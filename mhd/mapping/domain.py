"""What the mapping between XDS and FHIR has to know of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mhd.mapping.code_systems import CodeSystems


@dataclass(frozen=True, slots=True, kw_only=True)
class MhdDomain:
    """The affinity domain as FHIR apps see it.

    base                  public base URL, without a slash at its end; every URL of ours begins with it
    authorities           OIDs whose patient ids are the affinity domain's; none: those of every authority
    value_sets            by attribute of xds/metadata.py, the codes of the affinity domain as `code^^scheme`
    displays              by attribute, what is shown of them where nothing was sent, by `code^^scheme`
    patient_author_role   authorRole of a Patient who is the author
    repository_extension  URL of the extension that tells the repositoryUniqueId of a document; None: it is not told
    """

    base: str
    code_systems: CodeSystems = field(default_factory=CodeSystems.default)
    authorities: frozenset[str] = frozenset()
    value_sets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    displays: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    patient_author_role: str = "PAT^^^&2.16.840.1.113883.5.110&ISO"
    repository_extension: str | None = None

    def is_authority(self, oid: str) -> bool:
        """Whether the affinity domain takes patient ids of this authority."""
        return not self.authorities or oid in self.authorities

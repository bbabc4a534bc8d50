"""[[on_demand]]: who makes documents when they are retrieved."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from server.settings.affinity_domain import CodedValue
from server.settings.setting_forms import MIB, Oid, Table, WebAddress


class OnDemandSettings(Table):
    """[[on_demand]]: who makes documents when they are retrieved."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="of the source, for the log")
    unique_ids: tuple[Oid, ...] = Field(
        (), description="OIDs that the uniqueIds of its entries are, or begin with; none: it is for all of them"
    )
    url: WebAddress | None = Field(None, description="where it is asked over HTTP: a POST of the entry as JSON")
    entry_point: str | None = Field(
        None, description="or the name of a plug-in: an entry point in the group toimik.on_demand_sources"
    )
    options: dict[str, str] = Field(default_factory=dict, description="what is handed to the plug-in")
    authorization_file: Path | None = Field(
        None, description="file with the value of the header Authorization, a secret; read whenever it is needed"
    )
    ca: Path | None = Field(
        None, description="PEM file: authorities of the server at url; by default tls.trusted_servers"
    )
    retries: int = Field(
        1, ge=0, le=5, description="how often url is asked again where it can not be reached or answers 502, 503 or 504"
    )
    timeout_seconds: float = Field(30.0, gt=0, description="how long a document may take, from first to last octet")
    document_bytes: int = Field(64 * MIB, ge=1, description="largest document that it may make")
    persist: bool = Field(
        False, description="whether what it makes is kept, and registered as a snapshot that replaces the one before"
    )
    content_type: CodedValue | None = Field(
        None, description="contentTypeCode of the SubmissionSets of snapshots; by default the classCode of the entry"
    )
    delayed: bool = Field(
        False,
        description="whether it also makes delayed documents, registered with size 0 and the hash of nothing: once, "
        "when they are first retrieved",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.entry_point is None):
            raise ValueError("give either url or entry_point")
        if self.url is None and (self.authorization_file is not None or self.ca is not None):
            raise ValueError("authorization_file and ca are for a url; a plug-in is told by options")
        if self.url is not None and self.options:
            raise ValueError("options are for an entry_point")
        return self

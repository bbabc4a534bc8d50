"""FHIR over real HTTP. Every body that comes back is judged: structure, HL7's schema, the profiles that it claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from mhd.fhir.fhir_json import parsed
from server.fhir_xml import from_xml
from tests.fhir_validity import assert_is_fhir, assert_meets_profiles

Parameters = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class FhirReply:
    """An HTTP answer; resource is None where its body is none of FHIR."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    resource: Any

    @property
    def bundle(self) -> dict[str, Any]:
        assert self.status == 200, self.content
        assert self.resource["resourceType"] == "Bundle", self.content
        found: dict[str, Any] = self.resource
        return found

    @property
    def found(self) -> list[str]:
        """The ids of the resources of a searchset, in order."""
        entries = self.bundle.get("entry", ())
        assert all(each["search"] == {"mode": "match"} for each in entries)
        assert all(each["fullUrl"].endswith(f"/{each['resource']['id']}") for each in entries)
        return [each["resource"]["id"] for each in entries]

    @property
    def issue(self) -> dict[str, Any]:
        """The one issue of an OperationOutcome."""
        assert self.resource is not None, self.content
        assert self.resource["resourceType"] == "OperationOutcome", self.content
        (issue,) = self.resource["issue"]
        return dict(issue)

    def link(self, relation: str) -> str | None:
        return next((str(each["url"]) for each in self.bundle["link"] if each["relation"] == relation), None)


class FhirWire:
    """A client that sends exactly what it is told to."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = f"{base}/fhir"
        self._session = session

    async def send(
        self,
        method: str,
        path: str,
        parameters: Parameters = (),
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> FhirReply:
        """path: below the base, or a whole URL, which is taken as it is."""
        url = URL(path, encoded=True) if "://" in path else URL(f"{self.base}/{path}".rstrip("/"))
        async with self._session.request(
            method, url, params=parameters or None, data=data, headers=headers, allow_redirects=False
        ) as response:
            content = await response.read()
            return FhirReply(response.status, response.headers, content, _resource(response, content))

    async def get(self, path: str, parameters: Parameters = (), **headers: str) -> FhirReply:
        """headers: with _ in place of -"""
        return await self.send(
            "GET", path, parameters, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    async def walked(self, path: str, parameters: Parameters) -> list[str]:
        """The ids on all pages of a search."""
        reply = await self.get(path, parameters)
        found = reply.found
        while (following := reply.link("next")) is not None:
            reply = await self.get(following)
            found += reply.found
        return found


def _resource(response: aiohttp.ClientResponse, content: bytes) -> Any:
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if kind not in ("application/fhir+json", "application/fhir+xml") or not content:
        return None
    resource = parsed(content) if kind.endswith("json") else from_xml(content)
    assert_is_fhir(resource)
    for entry in resource.get("entry", ()) if resource["resourceType"] == "Bundle" else ():
        assert_meets_profiles(entry.get("resource", {}))
    return resource

"""Contained resources: what stands in a resource and is referred to by `#id` (FHIR R4: references.html#contained)."""

from __future__ import annotations

from collections.abc import Mapping

from mhd.fhir.exact_text import Json


class ContainedResources:
    """Resources to be contained; one that is the same as another stands there once."""

    def __init__(self) -> None:
        self.resources: list[Json] = []
        self._without_ids: list[Json] = []

    def reference(self, wished_id: str, resource: Json) -> Json:
        """A Reference to `resource` (which has no id), contained as `wished_id` or a name that is still free."""
        if resource in self._without_ids:
            return {"reference": f"#{self.resources[self._without_ids.index(resource)]['id']}"}
        taken = {each["id"] for each in self.resources}
        names = (wished_id, *(f"{wished_id}-{number}" for number in range(2, len(taken) + 3)))
        free = next(name for name in names if name not in taken)
        kind, *rest = resource.items()
        self._without_ids.append(resource)
        self.resources.append(dict([kind, ("id", free), *rest]))
        return {"reference": f"#{free}"}


def contained_by_reference(resource: Json) -> Mapping[str, Json]:
    """The contained resources by what refers to them: `#id`."""
    return {f"#{each['id']}": each for each in resource.get("contained", ()) if "id" in each}

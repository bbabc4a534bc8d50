"""What a server tells at /metrics, read by Prometheus' own parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class ScrapedMetrics:
    """The samples of one moment; text is what was sent."""

    text: str

    @classmethod
    async def of(cls, base: str) -> Self:
        """Ask a server. Raises AssertionError where it answers anything but 200."""
        async with aiohttp.ClientSession() as session, session.get(f"{base}/metrics") as response:
            text = await response.text()
            assert response.status == 200, text
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return cls(text)

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name whose labels have these values; 0 where there is none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {sample.name for family in text_string_to_metric_families(self.text) for sample in family.samples}

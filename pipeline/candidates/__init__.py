"""Narrows the catalog to the products worth ranking for each customer: found in a build, ruled out, arranged."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.domain import Candidates, CustomerId, Profile


class CandidateSource(Protocol):
    """Finds candidates for the customers of a page."""

    async def candidates(self, profiles: Sequence[Profile]) -> dict[CustomerId, Candidates]:
        """For each customer the products to rank, most promising first; without `found` where there are none."""
        ...

"""Where the shards of a night are served: in this process, or by workers elsewhere. The flow does not know which."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from flows.placement.dask_cluster import serve_in_dask
from flows.placement.dispatcher import require_shared
from flows.placement.here import serve_here
from flows.placement.pool import serve_in_pool
from pipeline.domain import SlateState
from pipeline.night import Night
from pipeline.runs import Run

__all__ = ["Placement", "placement_of", "require_shared"]

Placement = Callable[[Night, Run, Collection[SlateState]], Awaitable[None]]
"""Serves the shards of a run that have slates in one of these states, and returns when none is left to be tried."""
_PLACEMENTS: Final[dict[str, Placement]] = {"here": serve_here, "pool": serve_in_pool, "dask": serve_in_dask}


def placement_of(night: Night) -> Placement:
    """Where the settings of this night want its shards to be served."""
    return _PLACEMENTS[night.settings.placement]

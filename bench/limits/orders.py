"""What the bench says to its worker processes and hears from them: JSON documents, a line each."""

from typing import Literal, TypedDict


class Plan(TypedDict):
    """Plan a run over the first `most` customers, in shards of so many, and work on it."""

    do: Literal["plan"]
    most: int | None
    shard_size: int


class Take(TypedDict):
    """Work on a run that another process planned."""

    do: Literal["take"]
    run: str


class Serve(TypedDict):
    """Serve one of its shards, beside those that are being served."""

    do: Literal["serve"]
    shard: int


Order = Plan | Take | Serve


class Told(TypedDict, total=False):
    """What a worker says: that it is `ready`; which `run` it works on, with its `shards`; which shard it has `served`.

    `at` is when, by the clock that all processes of the machine share; `failed` is why a shard broke off. A contender
    tells of all its customers at once: how many it `lost`, and the `seconds` that it took.
    """

    ready: int
    run: str
    shards: list[int]
    served: int
    at: float
    failed: str | None
    lost: int
    seconds: float

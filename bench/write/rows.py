"""What is written: runs with slates that are open, and the rows of those slates."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import uuid4

from psycopg import AsyncConnection

from pipeline.domain import CustomerId, ProductId, Rank, Recommendation, RunId
from pipeline.group_commit import Row

PROVENANCE = "offline_ranker"
SLATE_SIZE = 10
_LEASE = 1

_PLAN = """
INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version,
                  code_version, as_of, day, shuffle_seed, started_at)
VALUES (%(run_id)s, 'nightly', 'running', 'bench', 'bench', %(provenance)s, %(slate_size)s, 0, 'bench', 'bench', now(),
        %(day)s, 0, now())
"""
_OPEN = """
INSERT INTO slates (run_id, day, customer_id, shard, state, lease, attempts)
SELECT %(run_id)s, %(day)s, 'c' || lpad(number::text, 8, '0'), 0, 'streaming', %(lease)s, 1
FROM generate_series(1, %(slates)s) AS number
"""


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run whose slates, those of the customers 1 to `slates`, wait for rows."""

    run_id: RunId
    day: date
    slates: int

    def customers(self) -> Iterator[int]:
        """Their numbers. Whoever shares the iterator takes the next one."""
        return iter(range(1, self.slates + 1))


async def open_run(connection: AsyncConnection, slates: int) -> OpenedRun:
    """A new run of today, with so many slates that have just been opened."""
    run = OpenedRun(RunId(uuid4()), datetime.now(UTC).date(), slates)
    values = {"run_id": run.run_id, "day": run.day, "slates": slates, "lease": _LEASE}
    await connection.execute("SELECT recstream_prepare_day(%(day)s)", values)
    await connection.execute(_PLAN, values | {"provenance": PROVENANCE, "slate_size": SLATE_SIZE})
    await connection.execute(_OPEN, values)
    return run


def rows_of(customer: int) -> Iterator[Row]:
    """The rows of one slate, best first."""
    for rank in range(1, SLATE_SIZE + 1):
        number = (customer * 31 + rank * 97) % 100_000
        name = f"Product {number} of a shop with names of this length"
        recommendation = Recommendation(Rank(rank), ProductId(f"p{number}"), name, 1 - rank / 100)
        yield Row(customer_id(customer), _LEASE, 1, recommendation)


def customer_id(number: int) -> CustomerId:
    """The id of a customer of the bench."""
    return CustomerId(f"c{number:08}")

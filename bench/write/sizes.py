"""What a row of `recommendations` takes on the disk, with all indexes, and what its columns hold."""

from dataclasses import dataclass

from bench.write.database import connected
from pipeline.domain import RunState

# The columns of fixed length are 16 (run), 4 (rank), 4 (day), 8 (score), 4 (attempt) and 8 (moment) bytes long.
_SIZES = """
SELECT sum(rows), sum(pg_total_relation_size(partition)) / sum(rows), sum(raw) / sum(rows)
FROM (
    SELECT tableoid AS partition, count(*) AS rows,
           sum(44 + octet_length(customer_id) + octet_length(product_id) + octet_length(product_name)
               + octet_length(provenance)) AS raw
    FROM recommendations
    WHERE day = (SELECT max(day) FROM runs WHERE state = %s)
    GROUP BY tableoid
) AS partition
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the rows of one day: how many there are, and bytes for each, on the disk and of data."""

    rows: int
    bytes_per_row: float
    raw_bytes_per_row: float


async def sizes_of(url: str, state: RunState) -> Sizes:
    """What the rows take of the newest day that has a run in this state; there has to be one."""
    async with connected(url) as connection:
        found = await (await connection.execute(_SIZES, [state])).fetchone()
    assert found is not None
    rows, whole, raw = found
    return Sizes(int(rows), float(whole), float(raw))

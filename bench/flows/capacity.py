"""What a shop of some size needs: `python -m bench.flows.capacity` measures a night and prints the table of the guide.

A night over a larger copy of the demo shop, on the embedded Postgres and against the offline ranker as fast as it can,
tells what one customer takes: tokens, bytes, CPU time, and how many connections the process holds. What a provider
allows and how long it takes to answer is the shop's to know; the table assumes it, and says so.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg

from bench.flows.capacity_table import Measured, lines
from bench.flows.line import Line, whole_line
from bench.flows.shop import fill_copies
from pipeline.database import open_connection
from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.offline_ranker.process import offline_ranker
from pipeline.schema import migrate
from pipeline.settings import OFFLINE_MODEL, Settings

COPIES = 10  # of the demo shop's customers, and what they have done
_WARM_UP = 20
_LOOK_EVERY_S = 0.2
_TOKENS = """
SELECT count(*)::float8, avg(tokens_in)::float8, avg(tokens_out)::float8 FROM slates
WHERE state = 'complete' AND run_id = (SELECT run_id FROM runs ORDER BY created_at DESC LIMIT 1)
"""
_BYTES = """
SELECT sum(pg_total_relation_size(relid))::float8 FROM pg_stat_user_tables
WHERE relname ~ '^(slates|recommendations|llm_calls)_[0-9]+$'
"""
_CONNECTIONS = "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"


def main() -> int:
    """Measure, and print the table and the figures."""
    with _shop() as (url, settings):
        line, connections = asyncio.run(_night(url, settings))
        with open_connection(url, role=None) as connection:
            measured = _measured(connection, line, connections)
    for text in lines(measured):
        print(text)
    print(json.dumps(asdict(measured)))
    return 0


@contextmanager
def _shop() -> Iterator[tuple[str, Settings]]:
    with tempfile.TemporaryDirectory() as name, offline_ranker(tokens_per_second=0) as ranker:
        folder = Path(name)
        try:
            with embedded_postgres(folder) as server:
                url = server.url()
                migrate(url)
                fill_copies(url, COPIES)
                yield url, _settings({"database_url": url, "openai_base_url": ranker.base_url}, folder)
        finally:
            discard_embedded_postgres(folder)


def _settings(ways: Mapping[str, str], folder: Path) -> Settings:
    return Settings.model_validate({**ways, "model": OFFLINE_MODEL, "home": folder, "concurrency": 64})


async def _night(url: str, settings: Settings) -> tuple[Line, int]:
    """A night over everybody, and the most connections that it held at a time."""
    working = asyncio.create_task(whole_line(settings, customers=100_000, warm_up=_WARM_UP))
    most = 0
    with open_connection(url, autocommit=True, role=None) as connection:
        while not working.done():
            await asyncio.wait({working}, timeout=_LOOK_EVERY_S)
            row = connection.execute(_CONNECTIONS).fetchone()
            most = max(most, row[0] if row else 0)
    return await working, most


def _measured(connection: "psycopg.Connection[tuple[float, ...]]", line: Line, connections: int) -> Measured:
    tokens = connection.execute(_TOKENS).fetchone()
    stored = connection.execute(_BYTES).fetchone()
    assert tokens is not None
    assert stored is not None
    customers, tokens_in, tokens_out = tokens
    return Measured(
        tokens_in=round(tokens_in),
        tokens_out=round(tokens_out),
        bytes_per_customer=round(stored[0] / (customers + _WARM_UP)),
        cpu_ms_per_customer=round(1000 * line.cpu_s / line.customers, 1),
        connections=connections,
    )


if __name__ == "__main__":
    sys.exit(main())

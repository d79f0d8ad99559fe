"""The figures that matter, and what each must reach."""

from bench.targets import Target


def targets(customers: int) -> tuple[Target, ...]:
    """Those of a bench with so many customers: the names of two figures say how many."""
    many = scale_name(customers)
    return (
        Target("rows_vs_sqlalchemy", "durable rows/s, of SQLAlchemy's with a transaction per row", 12, at_least=True),
        Target("rows_vs_psycopg16", "the same, of 16 psycopg connections' with one", 1.5, at_least=True),
        Target("ack_ms_p50_200", "from hand-over to durable and visible, 200 rows/s offered", 5),
        Target("ack_ms_p99_200", "the same", 25),
        Target("point_read_ms_p99", "one customer's current slate, three nights in the tables", 2),
        Target(f"publish_s_{many}", "to publish a night, gates judged, readers reading: the slowest", 10),
        Target(f"rollback_s_{many}", "to roll one back, readers reading: the slowest", 10),
        Target("torn_reads", "slates that were not wholly of one night", 0),
    )


def scale_name(customers: int) -> str:
    """1m, 100k, or the number itself."""
    for size, letter in ((1_000_000, "m"), (1_000, "k")):
        if customers % size == 0:
            return f"{customers // size}{letter}"
    return str(customers)

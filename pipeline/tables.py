"""The tables of recstream for SQLAlchemy Core. The database itself is made by `migrations/`; a test holds both equal.

The three input tables may be views of the same columns in a shop that has its own tables. `slates`, `recommendations`,
`rejections` and `llm_calls` are partitioned by `day`, which their run has from its planning.
"""

from datetime import date, datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

_PROVENANCE = "language_model, or offline_ranker: ranked by word overlap, which is no language model's judgement."


_BY_DAY = "RANGE (day)"


def _day(comment: str | None = None, *, key: bool = True) -> Column[date]:
    return Column("day", Date, nullable=False, primary_key=key, comment=comment)


def _moment(name: str, *, required: bool = False) -> Column[datetime]:
    default = func.now() if required else None
    return Column(name, DateTime(timezone=True), nullable=not required, server_default=default)


customers = Table(
    "customers",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("time_zone", Text),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    _moment("updated_at", required=True),
)

products = Table(
    "products",
    metadata,
    Column("product_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("brand", Text),
    Column("category", Text),
    Column("price", Numeric(14, 2)),
    Column("available", Boolean, nullable=False, server_default=text("true")),
    Column("hidden", Boolean, nullable=False, server_default=text("false")),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    _moment("updated_at", required=True),
)

events = Table(
    "events",
    metadata,
    Column("event_key", Uuid, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("product_id", Text),
    Column("kind", Text, nullable=False),
    Column("value", Double),
    Column("text", Text),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Index("events_by_customer", "customer_id", "kind", text("occurred_at DESC")),
    Index("events_by_time", "kind", "occurred_at"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("provenance", Text, nullable=False, comment=_PROVENANCE),
    Column("slate_size", Integer, nullable=False),
    Column("temperature", Double, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("code_version", Text, nullable=False),
    Column("as_of", DateTime(timezone=True), nullable=False),
    _day("The day (UTC) on which it was planned: the partition that its rows lie in.", key=False),
    Column(
        "shuffle_seed",
        BigInteger,
        nullable=False,
        comment="Orders what is to be shuffled, the same way whenever the run is resumed.",
    ),
    Column("parameters", JSONB, nullable=False, server_default=text("'{}'")),
    _moment("created_at", required=True),
    _moment("started_at"),
    _moment("ended_at"),
    Column(
        "pruned_at",
        DateTime(timezone=True),
        comment="When its rows were dropped, but for the slates that readers still saw: it can be neither resumed nor "
        "published.",
    ),
    Index("runs_by_time", "kind", text("created_at DESC")),
)

slates = Table(
    "slates",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    _day("The day (UTC) on which the run was planned: the partition. 0001-01-01: kept."),
    Column("shard", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column(
        "lease",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="Counts who opened the slate: only the last of them writes to it. A fencing token.",
    ),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("ending", Text),
    Column("reason", Text),
    Column("candidate_ids", ARRAY(Text)),
    Column("input_hash", Text),
    Column("tokens_in", BigInteger, nullable=False, server_default=text("0")),
    Column("tokens_out", BigInteger, nullable=False, server_default=text("0")),
    Column("tokens_cached", BigInteger, nullable=False, server_default=text("0")),
    Column(
        "cost",
        Numeric(14, 6),
        comment="Of all attempts, in the currency of the price list; null without one.",
    ),
    Column("first_row_s", Double, comment="Seconds from the opening of the slate to its first durable row."),
    Column("last_row_s", Double, comment="Seconds from the last opening of the slate to its last durable row."),
    Column("whole_s", Double),
    _moment("updated_at", required=True),
    Index("slates_by_shard", "run_id", "shard", "customer_id"),
    Index("slates_by_customer", "customer_id"),
    postgresql_partition_by=_BY_DAY,
)

recommendations = Table(
    "recommendations",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("rank", Integer, primary_key=True),
    _day(),
    Column("product_id", Text, nullable=False),
    Column("product_name", Text, nullable=False),
    Column(
        "relevance_score",
        Double,
        nullable=False,
        comment="0 to 1: an ordering within one slate, not a probability.",
    ),
    Column("provenance", Text, nullable=False, comment=_PROVENANCE),
    Column("attempt", Integer, nullable=False),
    Column("committed_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("run_id", "customer_id", "product_id", "day", name="recommendations_product_once"),
    postgresql_partition_by=_BY_DAY,
)

rejections = Table(
    "rejections",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column(
        "number",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Of the refused objects of one attempt, from 1; any number in rows of before.",
    ),
    _day(),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("raw", Text, nullable=False),
    _moment("created_at", required=True),
    postgresql_partition_by=_BY_DAY,
)

llm_calls = Table(
    "llm_calls",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column(
        "lease",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="The slate's, when the attempt began; any number in rows of before.",
    ),
    _day(),
    Column("request_id", Text),
    Column("model", Text),
    Column("status", Integer),
    Column(
        "ending",
        Text,
        nullable=False,
        comment="How the answer ended; in_flight while it goes on, died where its process ended without a word.",
    ),
    Column("error", Text),
    Column("tokens_in", BigInteger, nullable=False, server_default=text("0")),
    Column("tokens_out", BigInteger, nullable=False, server_default=text("0")),
    Column("tokens_cached", BigInteger, nullable=False, server_default=text("0")),
    Column("tokens_estimated", Boolean, nullable=False, server_default=text("true")),
    Column("first_byte_s", Double),
    Column("whole_s", Double),
    Column(
        "started_at",
        DateTime(timezone=True),
        comment="When the request was about to be sent; null in rows of before.",
    ),
    _moment("ended_at"),
    Column(
        "refused_objects",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="Objects of the answer that are no recommendation; see rejections.",
    ),
    Column(
        "score_rises",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="Recommendations whose score is above that of the one before: "
        "a model whose scores do not follow its order.",
    ),
    postgresql_partition_by=_BY_DAY,
)

published = Table(
    "published",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    _day("The partition that the slate lies in: the day of its run, or 0001-01-01 once kept.", key=False),
    _moment("published_at", required=True),
    Index("published_by_run", "run_id"),
    comment="Slates made for one customer on demand, the newest of each; before 0004 of nights too.",
)

published_runs = Table(
    "published_runs",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    _day(key=False),
    Column(
        "precedence",
        DateTime(timezone=True),
        nullable=False,
        comment="When the run was planned, so that it does not undo what was made meanwhile; for one published by "
        "hand, when.",
    ),
    _moment("published_at", required=True),
    Column("withdrawn_at", DateTime(timezone=True), comment="When it was rolled back; readers do not see it since."),
    Column("served_share", Double, nullable=False, comment="Customers with a complete slate, of those planned."),
    Column("rows_per_slate", Double, nullable=False, comment="Rows of a complete slate, on average."),
    Column("refused_share", Double, nullable=False, comment="Objects of the answers that were refused, of all."),
    ForeignKeyConstraint(["run_id"], ["runs.run_id"]),
    Index(
        "published_runs_in_order",
        text("precedence DESC"),
        text("run_id DESC"),
        postgresql_where=text("withdrawn_at IS NULL"),
    ),
    comment="Nights whose complete slates readers see: a customer's is of the night of greatest precedence that has "
    "one.",
)

rejects_files = Table(
    "rejects_files",
    metadata,
    Column("machine", Text, primary_key=True, comment="The name of the host on which the path is."),
    Column("path", Text, primary_key=True),
    _moment("written_at", required=True),
    comment="Where `recstream load` wrote refused lines of the shop's files.",
)

"""The tables of recstream for SQLAlchemy Core. The database itself is made by `migrations/`; a test holds both equal.

The three input tables may be views of the same columns in a shop that has its own tables. `slates`, `recommendations`,
`rejections` and `llm_calls` are partitioned by `day`, which their run has from its planning.
"""

from datetime import date, datetime

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
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
_ROW_PROVENANCE = (
    "language_model; offline_ranker: ranked by word overlap, which is no language model's judgement; "
    "retrieval_order: no model answered, so the candidates stand in the order in which they were found."
)

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
    Column("run_id", Uuid, comment="Of a response: the run whose recommendation it answers."),
    Column("rank", Integer, comment="Of a response: the rank at which the product was shown."),
    Column("response", Text, comment="What became of the recommendation: shown, clicked, bought or refused."),
    Index("events_by_customer", "customer_id", "kind", text("occurred_at DESC")),
    Index("events_by_time", "kind", "occurred_at"),
    Index(
        "events_answers",
        "customer_id",
        text("occurred_at DESC"),
        postgresql_where=text("kind = 'response' AND value IS NOT NULL"),
    ),
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
    Column(
        "cost",
        Numeric(14, 6),
        comment="Of all its slates when it ended last, in the currency of the price list; null without.",
    ),
    Column(
        "ending_at",
        DateTime(timezone=True),
        comment="Since when its slates are made and it is being published: from then on it takes no order.",
    ),
    Column("unchanged", Integer, comment="How many of its slates were unchanged when it ended last."),
    Column(
        "candidate_build",
        Integer,
        comment="The build that its customers' candidates are looked up in, however often it is resumed; null without "
        "one.",
    ),
    Column(
        "interrupted",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Its process died, or was interrupted: the next night may go on with it.",
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
    Column("candidate_ids", ARRAY(Text), comment="In the order in which they were found: best first."),
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
    Column(
        "content_hash",
        Text,
        comment="Over all that the ranking depends on: profile, candidates, prompt, model and settings.",
    ),
    Column("kept_run_id", Uuid, comment="Of an unchanged slate: the run whose slate the customer keeps."),
    Column("kept_rows", Integer, comment="Of an unchanged slate: the rows of that slate."),
    Column("variant", Text, comment="Which variant of the run made it; null where there are none."),
    Column("candidate_scores", ARRAY(REAL)),
    Column(
        "candidate_sources",
        Text,
        comment="A letter for each candidate: n neighbours, r repeat, p popular, c newcomer, i pinned, "
        "a whole catalog.",
    ),
    _moment("candidates_as_of"),
    Column("candidate_build", Integer),
    Column(
        "removed_candidates",
        JSONB,
        comment="What rules took out: the rule, and the first products it took out.",
    ),
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
    Column("provenance", Text, nullable=False, comment=_ROW_PROVENANCE),
    Column("attempt", Integer, nullable=False),
    Column("committed_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("model", Text, comment="The model that ranked it where that is not the run's; else null."),
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
    Column("cost", Numeric(14, 6), comment="In the currency of the price list; null without a price."),
    Column("endpoint", Text, comment="Where it was asked, if not at the run's endpoint; else null."),
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

endpoint_limits = Table(
    "endpoint_limits",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("account", Text, primary_key=True, comment="Tells keys apart: the first digits of a digest of the key."),
    Column("requests_per_minute", Double),
    Column("tokens_per_minute", Double),
    Column("requests_from", Text),
    Column("tokens_from", Text),
    Column("tokens_per_request", Double),
    Column("known_at", DateTime(timezone=True), comment="When somebody last used the rates, or heard of them."),
    Column("headers_at", DateTime(timezone=True), comment="When the endpoint itself last told a rate."),
    Column("closed_at", DateTime(timezone=True)),
    Column(
        "closed_until",
        DateTime(timezone=True),
        comment="Nobody asks before: the endpoint wished to be left alone.",
    ),
    Column("closed_because", Text),
    _moment("updated_at", required=True),
    comment="What is known of the limits of a provider, for all processes that ask it.",
)

limit_leases = Table(
    "limit_leases",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("process", Uuid, primary_key=True),
    Column("renewal", BigInteger, nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("renewed_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("demand", Integer, nullable=False, comment="Requests that wait or are under way."),
    Column("in_flight", Integer, nullable=False),
    Column("used_requests", Double, nullable=False, comment="Accepted a minute, of the last seconds."),
    Column("used_tokens", Double, nullable=False),
    Column("portion", Double, nullable=False, comment="Its part of the endpoint's rates, as it was told last."),
    Column(
        "held",
        Double,
        nullable=False,
        comment="What it may still be using: more than its part, until it has heard of less.",
    ),
    Column("requests_per_minute", Double, comment="Its part as a rate; null where the endpoint's is unknown."),
    Column("tokens_per_minute", Double),
    Column(
        "precedence",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Whether somebody waits for what it makes: it goes before the nights.",
    ),
    comment="The part of a limit that each living process has; one that dies loses it by itself.",
)

spending = Table(
    "spending",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("cost", Numeric(20, 8), nullable=False, server_default=text("0")),
    Column("tokens", BigInteger, nullable=False, server_default=text("0")),
    _moment("updated_at", required=True),
    comment="What a run (its id) and a day (of the shop) have spent where a cap is set: requests in flight are in it "
    "with the most that they can come to, and so are those of processes that died.",
)

spenders = Table(
    "spenders",
    metadata,
    Column("spender", Uuid, primary_key=True),
    Column("run_key", Text, nullable=False),
    Column("day_key", Text, nullable=False),
    Column(
        "turn",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Its last statement that was committed: one that is sent again changes nothing.",
    ),
    Column(
        "admitted",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="How many requests that statement had room for.",
    ),
    Column(
        "ahead",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="How many more it reserved for, that will come.",
    ),
    Column(
        "in_flight",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="For how many requests it has reserved that may still give something back.",
    ),
    _moment("updated_at", required=True),
    Index("spenders_by_day", "day_key"),
    comment="The processes that spend now: a row leaves with its process, or two days after it died.",
)

run_orders = Table(
    "run_orders",
    metadata,
    Column("order_id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("concurrency", Integer, comment="Of a limit: requests at a time over all processes; null takes it away."),
    Column(
        "ordered_by",
        Text,
        nullable=False,
        comment="The login on the machine and its name, as the machine says.",
    ),
    Column(
        "login",
        Text,
        nullable=False,
        server_default=text("session_user"),
        comment="The login of the database, as Postgres says: nobody else writes it.",
    ),
    Column("ordered_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    ForeignKeyConstraint(["run_id"], ["runs.run_id"]),
    Index("run_orders_by_run", "run_id", "order_id"),
    comment="What people have ordered of a run, in order; nothing in it is ever changed.",
)

run_processes = Table(
    "run_processes",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("process", Uuid, primary_key=True),
    Column("heard_of", BigInteger, nullable=False, comment="The newest order that it knows; 0 for none."),
    Column("part", Integer, comment="What it may have of an ordered limit, requests at a time; null without one."),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["run_id"], ["runs.run_id"]),
    comment="Who works on a run now: one that has not been seen for some seconds has died.",
)

run_shards = Table(
    "run_shards",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column(
        "customers",
        Integer,
        nullable=False,
        comment="Its customers follow those of the shard before.",
    ),
    Column(
        "tokens", BigInteger, comment="What they are expected to take, by the night before; null where none is known."
    ),
    Column(
        "attempt",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="The fencing token: it rises when the shard is offered anew.",
    ),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("process", Uuid, comment="Who serves it, as in run_processes: there it says whether he lives."),
    Column("machine", Text),
    _moment("offered_at"),
    _moment("taken_at"),
    _moment("ended_at"),
    Column("reason", Text),
    Column("error", Text, comment="What broke it off, by its name in the program: some end the whole run."),
    ForeignKeyConstraint(["run_id"], ["runs.run_id"], deferrable=True, initially="DEFERRED"),
    comment="The shards of a run, and who serves each: whoever has an earlier attempt than stands here writes nothing.",
)

_BY_BUILD = "LIST (build_id)"

candidate_builds = Table(
    "candidate_builds",
    metadata,
    Column("build_id", Integer, Identity(always=True), primary_key=True),
    Column("state", Text, nullable=False),
    Column(
        "trial",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Built to be measured: never in service.",
    ),
    Column("method", Text, nullable=False),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("recipe", JSONB, nullable=False),
    Column("reason", Text),
    Column("customers", BigInteger),
    Column("products", BigInteger),
    Column("purchases", BigInteger, comment="Different products that a customer purchased, summed over customers."),
    Column("pairs", BigInteger),
    _moment("started_at", required=True),
    _moment("ended_at"),
    Column("in_service_at", DateTime(timezone=True), comment="The ready build with the newest is the one in service."),
    comment="What candidates were looked up in: one row each time they were built.",
)

candidate_products = Table(
    "candidate_products",
    metadata,
    Column("build_id", Integer, primary_key=True, autoincrement=False),
    Column(
        "number",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Stands for the product within this build.",
    ),
    Column("product_id", Text, nullable=False),
    Column("buyers", Integer, nullable=False),
    Column(
        "recent_buyers",
        Integer,
        nullable=False,
        comment="Who purchased it in the last days before the as-of time.",
    ),
    Index("candidate_products_by_id", "product_id"),
    postgresql_partition_by=_BY_BUILD,
)

candidate_neighbours = Table(
    "candidate_neighbours",
    metadata,
    Column("build_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("neighbours", ARRAY(Integer), nullable=False),
    Column("weights", ARRAY(REAL), nullable=False),
    comment="For each product those that its buyers purchased too, heaviest first.",
    postgresql_partition_by=_BY_BUILD,
)

candidate_newcomers = Table(
    "candidate_newcomers",
    metadata,
    Column("build_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("newcomers", ARRAY(Integer), nullable=False),
    Column("weights", ARRAY(REAL), nullable=False),
    comment="For each product the ones hardly anybody has purchased yet that are like it.",
    postgresql_partition_by=_BY_BUILD,
)

candidate_histories = Table(
    "candidate_histories",
    metadata,
    Column("build_id", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", Text, primary_key=True),
    Column("numbers", ARRAY(Integer), nullable=False),
    Column("times", ARRAY(SmallInteger), nullable=False, comment="On how many days."),
    Column(
        "first_days",
        ARRAY(REAL),
        nullable=False,
        comment="Days before the as-of time, of the first purchase.",
    ),
    Column(
        "last_days",
        ARRAY(REAL),
        nullable=False,
        comment="Days before the as-of time, of the last purchase.",
    ),
    comment="What each customer purchased up to the as-of time: each product once, the newest purchase first.",
    postgresql_partition_by=_BY_BUILD,
)

product_rules = Table(
    "product_rules",
    metadata,
    Column("rule_id", BigInteger, Identity(always=True), primary_key=True),
    Column("product_id", Text, nullable=False),
    Column("rule", Text, nullable=False, comment="ban: nobody sees it; pin: it is among the candidates of everybody."),
    Column("reason", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    Column(
        "until",
        DateTime(timezone=True),
        comment="From then on it is not in force; null is until somebody ends it.",
    ),
    Column(
        "ordered_by",
        Text,
        nullable=False,
        comment="The login on the machine and its name, as the machine says.",
    ),
    Column(
        "login",
        Text,
        nullable=False,
        server_default=text("session_user"),
        comment="The login of the database, as Postgres says: nobody else writes it.",
    ),
    Column("ended_by", Text, comment="Who ended it before its time; null where nobody did."),
    comment="What the shop rules for all customers: never recommend it, or always offer it.",
)

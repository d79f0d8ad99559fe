"""What was asked for on demand goes before the night: it has what it needs of a limit first, up to half of the whole.

Docs: docs/decisions/0034.
"""

from importlib import import_module

from alembic import op

from migrations.locking import lock

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE limit_leases ADD COLUMN precedence boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN limit_leases.precedence IS 'Whether somebody waits for what it makes: it goes before the nights.';
"""

# As in 0007 where all are alike, or where there is enough for all. Else those who go before the night share what they
# need, at most half of the whole, or what the night leaves; the night shares the rest. Within each of the two half of
# the weight is the same for all who ask, half goes by how much they ask.
FAIR = """
DROP FUNCTION recstream_fair_portion;
CREATE FUNCTION recstream_fair_portion(
    its_endpoint text, its_model text, its_account text, its_process uuid,
    its_demand integer, its_in_flight integer, its_use double precision, capacity double precision,
    its_precedence boolean
) RETURNS double precision LANGUAGE sql STABLE SET search_path FROM CURRENT AS $fair$
WITH asking AS (
    SELECT process, precedence, demand AS asked, greatest(demand - in_flight, 0) AS waiting, used_requests AS used
    FROM limit_leases
    WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account) AND process <> its_process
    UNION ALL
    SELECT its_process, its_precedence, its_demand, greatest(its_demand - its_in_flight, 0), its_use
),
needing AS (
    SELECT process, precedence, asked,
           -- What waits is served within 5 seconds; one who is idle may send his next request at once.
           coalesce(least((12 * waiting + 1.25 * used + 1.2) / nullif(capacity, 0), 1), 1) AS need
    FROM asking
),
sides AS (
    SELECT sum(need) FILTER (WHERE precedence) AS before, sum(need) FILTER (WHERE NOT precedence) AS night,
           coalesce(bool_or(precedence AND asked > 0) AND bool_or(NOT precedence AND asked > 0) AND sum(need) > 1,
                    false) AS apart
    FROM needing
),
-- `whole` is what those of one side share.
placed AS (
    SELECT process, asked, need, apart AND precedence AS goes_before,
           CASE WHEN NOT apart THEN 1
                WHEN precedence THEN greatest(least(before, 0.5), 1 - night)
                ELSE 1 - greatest(least(before, 0.5), 1 - night)
           END AS whole
    FROM needing, sides
),
weighed AS (
    SELECT process, need, goes_before, whole,
           (asked + 0.1) / sum(asked + 0.1) OVER (PARTITION BY goes_before)
               + CASE WHEN asked > 0
                      THEN 1.0 / count(*) FILTER (WHERE asked > 0) OVER (PARTITION BY goes_before)
                      ELSE 0
                 END AS weight
    FROM placed
),
-- From the smallest need on: what those before leave, for each unit of the weight of those who are left.
filled AS (
    SELECT process, weight, need, goes_before, whole,
           (whole - sum(need) OVER row_by_row + need)
               / (sum(weight) OVER (PARTITION BY goes_before) - sum(weight) OVER row_by_row + weight) AS level
    FROM weighed
    WINDOW row_by_row AS (PARTITION BY goes_before ORDER BY need / weight, process)
),
side AS (
    SELECT goes_before, max(level) FILTER (WHERE need > level * weight) AS level,
           sum(need) AS need, sum(weight) AS weight
    FROM filled
    GROUP BY goes_before
)
SELECT CASE WHEN side.level IS NULL
            THEN filled.need + (filled.whole - side.need) * filled.weight / side.weight
            ELSE least(filled.need, side.level * filled.weight)
       END
FROM filled JOIN side USING (goes_before)
WHERE filled.process = its_process
$fair$;
COMMENT ON FUNCTION recstream_fair_portion IS 'The part of a limit that a process should have beside the others.';
"""

# As it was in 0012, but that it hears who goes before. Who does not say so is of the night: a process of the version
# before goes on renewing its lease.
CHANGES = (
    (
        "its_closed_because text,\n    OUT processes",
        "its_closed_because text,\n    its_precedence boolean DEFAULT false,\n    OUT processes",
    ),
    (
        "coalesce(known.tokens_per_request, 1000))\n        ), 1 - others.held)",
        "coalesce(known.tokens_per_request, 1000)),\n            its_precedence\n        ), 1 - others.held)",
    ),
    (
        "mine.requests_per_minute, mine.tokens_per_minute)\n        ON CONFLICT",
        "mine.requests_per_minute, mine.tokens_per_minute, its_precedence)\n        ON CONFLICT",
    ),
    (
        "tokens_per_minute = excluded.tokens_per_minute;",
        "tokens_per_minute = excluded.tokens_per_minute, precedence = excluded.precedence;",
    ),
)

RIGHTS = """
ALTER FUNCTION recstream_fair_portion OWNER TO recstream_owner;
ALTER FUNCTION recstream_renew_lease OWNER TO recstream_owner;
REVOKE ALL ON FUNCTION recstream_fair_portion, recstream_renew_lease FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recstream_fair_portion, recstream_renew_lease TO recstream_writer;
COMMENT ON FUNCTION recstream_renew_lease IS
    'Takes in what a process has seen of an endpoint, and gives it its part of the limit for the next seconds.';
"""


def upgrade() -> None:
    lock("limit_leases")
    op.execute(COLUMN)
    op.execute(FAIR)
    op.execute("DROP FUNCTION recstream_renew_lease")
    op.execute(_renewing())
    op.execute(RIGHTS)


def downgrade() -> None:
    lock("limit_leases")
    op.execute("DROP FUNCTION recstream_renew_lease, recstream_fair_portion")
    op.execute(import_module("migrations.versions.0007_limits").TARGET)
    op.execute(import_module("migrations.versions.0012_first_rate").RENEW)
    op.execute(RIGHTS)
    op.execute("ALTER TABLE limit_leases DROP COLUMN precedence")


def _renewing() -> str:
    renewing: str = import_module("migrations.versions.0012_first_rate").RENEW
    for before, after in CHANGES:
        head, tail = renewing.split(before)  # there, and once
        renewing = head + after + tail
    return renewing

"""A night is published by one row; what may not happen to a run, a slate or a row is refused by the database."""

from alembic import op

from migrations.locking import lock

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOCKED = (
    "live_recommendations",
    "current_recommendations",
    "published_runs",
    "published",
    "runs",
    "slates",
    "recommendations",
)

PUBLISHED_RUNS = """
ALTER TABLE runs ADD COLUMN pruned_at timestamptz;
COMMENT ON COLUMN runs.pruned_at IS
    'When its rows were dropped, but for the slates that readers still saw: it can be neither resumed nor published.';
CREATE TABLE published_runs (
    run_id uuid PRIMARY KEY REFERENCES runs,
    day date NOT NULL,
    precedence timestamptz NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    served_share double precision NOT NULL,
    rows_per_slate double precision NOT NULL,
    refused_share double precision NOT NULL
);
CREATE INDEX published_runs_in_order ON published_runs (precedence DESC, run_id DESC) WHERE withdrawn_at IS NULL;
COMMENT ON TABLE published_runs IS
    'Nights whose complete slates readers see: a customer''s is of the night of greatest precedence that has one.';
COMMENT ON COLUMN published_runs.precedence IS
    'When the run was planned, so that it does not undo what was made meanwhile; for one published by hand, when.';
COMMENT ON COLUMN published_runs.withdrawn_at IS 'When it was rolled back; readers do not see it since.';
COMMENT ON COLUMN published_runs.served_share IS 'Customers with a complete slate, of those planned.';
COMMENT ON COLUMN published_runs.rows_per_slate IS 'Rows of a complete slate, on average.';
COMMENT ON COLUMN published_runs.refused_share IS 'Objects of the answers that were refused, of all.';
COMMENT ON TABLE published IS 'Slates made for one customer on demand, the newest of each; before 0004 of nights too.';
"""

STATES = """
ALTER TABLE runs DROP CONSTRAINT runs_state_check, ADD CONSTRAINT runs_state_check
    CHECK (state IN ('planned', 'running', 'draining', 'finished', 'failed', 'cancelled')) NOT VALID;
ALTER TABLE runs VALIDATE CONSTRAINT runs_state_check;

CREATE FUNCTION recstream_refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF position(' ' || old.state || '>' || new.state || ' ' IN ' ' || tg_argv[0] || ' ') = 0 THEN
        RAISE EXCEPTION 'the % of run % cannot go from % to %',
            tg_argv[1], new.run_id, old.state, new.state USING ERRCODE = 'check_violation';
    END IF;
    RETURN new;
END $$;

-- A failed or cancelled run can be resumed; a finished one is done.
CREATE TRIGGER runs_state BEFORE UPDATE OF state ON runs FOR EACH ROW
WHEN (old.state IS DISTINCT FROM new.state)
EXECUTE FUNCTION recstream_refuse_transition(
    'planned>running planned>failed planned>cancelled running>draining running>finished running>failed '
    'running>cancelled draining>finished draining>failed draining>cancelled failed>running cancelled>running',
    'state');

-- What is complete stays complete: readers may have seen it.
CREATE TRIGGER slates_state BEFORE UPDATE OF state ON slates FOR EACH ROW
WHEN (old.state IS DISTINCT FROM new.state)
EXECUTE FUNCTION recstream_refuse_transition(
    'pending>streaming pending>failed streaming>pending streaming>complete streaming>short streaming>failed '
    'short>streaming failed>streaming',
    'slate');

CREATE FUNCTION recstream_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a committed recommendation never changes' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER recommendations_stay BEFORE UPDATE ON recommendations FOR EACH ROW
EXECUTE FUNCTION recstream_refuse_change();
"""

READING = """
-- A barrier: no condition of a reader's own is asked about rows that he may not see.
-- Each LATERAL part that can be one row alone is told so: the planner reads one partition for it, not all, and takes an
-- index for it, not a table. A customer's slate is of the first publication, in order, that has a complete one for him.
CREATE OR REPLACE VIEW current_recommendations WITH (security_barrier = true) AS
SELECT customer.customer_id,
       recommendation.rank,
       recommendation.product_id,
       recommendation.product_name,
       recommendation.relevance_score,
       recommendation.provenance,
       recommendation.committed_at,
       current.run_id,
       current.published_at
FROM customers AS customer
CROSS JOIN LATERAL (
    SELECT publication.run_id, slate.day, publication.published_at
    FROM (
        SELECT run_id, day, precedence, published_at FROM published_runs WHERE withdrawn_at IS NULL
        UNION ALL
        SELECT one.run_id, one.day, run.created_at, one.published_at
        FROM published AS one JOIN runs AS run USING (run_id)
        WHERE one.customer_id = customer.customer_id
        ORDER BY precedence DESC, run_id DESC
    ) AS publication
    CROSS JOIN LATERAL (
        SELECT slate.day
        FROM slates AS slate
        WHERE slate.run_id = publication.run_id
          AND slate.customer_id = customer.customer_id
          -- what outlives its day has been copied to the partition of 0001-01-01
          AND slate.day IN (publication.day, date '0001-01-01')
          AND slate.state = 'complete'
        ORDER BY slate.day DESC
        LIMIT 1
    ) AS slate
    ORDER BY publication.precedence DESC, publication.run_id DESC
    LIMIT 1
) AS current
CROSS JOIN LATERAL (
    -- the candidates knew of every purchase up to the run's as-of time, and of none after it
    SELECT array_agg(purchase.product_id) AS product_ids
    FROM runs AS run
    JOIN events AS purchase ON purchase.occurred_at > run.as_of
    WHERE run.run_id = current.run_id
      AND purchase.customer_id = customer.customer_id
      AND purchase.kind = 'purchase'
) AS purchased_since
CROSS JOIN LATERAL (
    SELECT rank, product_id, product_name, relevance_score, provenance, committed_at
    FROM recommendations
    WHERE recommendations.run_id = current.run_id
      AND recommendations.customer_id = customer.customer_id
      AND recommendations.day = current.day
    ORDER BY rank
) AS recommendation
CROSS JOIN LATERAL (
    SELECT
    FROM products AS product
    WHERE product.product_id = recommendation.product_id
      AND product.available
      AND NOT product.hidden
    LIMIT 1
) AS sellable
WHERE (recommendation.product_id = ANY (purchased_since.product_ids)) IS NOT TRUE;

CREATE OR REPLACE VIEW live_recommendations WITH (security_barrier = true) AS
SELECT recommendation.customer_id,
       recommendation.rank,
       recommendation.product_id,
       recommendation.product_name,
       recommendation.relevance_score,
       recommendation.provenance,
       recommendation.committed_at,
       recommendation.run_id,
       slate.state AS slate_state
FROM runs AS run
JOIN slates AS slate ON slate.run_id = run.run_id AND slate.day = run.day
JOIN recommendations AS recommendation ON recommendation.run_id = slate.run_id
    AND recommendation.customer_id = slate.customer_id
    AND recommendation.day = slate.day
WHERE run.state IN ('running', 'draining');
COMMENT ON VIEW live_recommendations IS
    'The rows of the runs that are going on, each from the moment at which it is durable: slates may be unfinished.';
"""

# A view stands on the tables that it was made on, whatever takes their names later: a shop that puts views of its own
# in place of the input tables calls this in the same transaction.
BINDING = """
CREATE FUNCTION recstream_bind_views() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $bind$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(wanted.input || '.' || wanted.name || ' of type ' || wanted.type, ', ')
    INTO missing
    FROM (VALUES
        ('customers', 'customer_id', 'text'), ('customers', 'active', 'boolean'), ('customers', 'time_zone', 'text'),
        ('customers', 'attributes', 'jsonb'), ('customers', 'updated_at', 'timestamp with time zone'),
        ('products', 'product_id', 'text'), ('products', 'name', 'text'), ('products', 'description', 'text'),
        ('products', 'brand', 'text'), ('products', 'category', 'text'), ('products', 'price', 'numeric'),
        ('products', 'available', 'boolean'), ('products', 'hidden', 'boolean'), ('products', 'attributes', 'jsonb'),
        ('products', 'updated_at', 'timestamp with time zone'),
        ('events', 'customer_id', 'text'), ('events', 'product_id', 'text'), ('events', 'kind', 'text'),
        ('events', 'value', 'double precision'), ('events', 'text', 'text'),
        ('events', 'occurred_at', 'timestamp with time zone')
    ) AS wanted (input, name, type)
    WHERE NOT EXISTS (
        SELECT
        FROM pg_attribute AS found
        WHERE found.attrelid = to_regclass(wanted.input)
          AND found.attname = wanted.name
          AND NOT found.attisdropped
          AND format_type(found.atttypid, NULL) = wanted.type
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'recstream reads columns that are not there: %', missing USING ERRCODE = 'undefined_column';
    END IF;
{views}
    IF to_regprocedure('recstream_give_views()') IS NOT NULL THEN
        PERFORM recstream_give_views();
    END IF;
END $bind$;
COMMENT ON FUNCTION recstream_bind_views IS
    'Makes the views again, so that they read what is now called customers, products and events.';
SELECT recstream_bind_views();
"""

BACK = """
DROP VIEW live_recommendations;
DROP VIEW current_recommendations;
DROP FUNCTION recstream_bind_views;
DROP TRIGGER recommendations_stay ON recommendations;
DROP TRIGGER slates_state ON slates;
DROP TRIGGER runs_state ON runs;
DROP FUNCTION recstream_refuse_change;
DROP FUNCTION recstream_refuse_transition;
UPDATE runs SET state = 'running' WHERE state = 'draining';
ALTER TABLE runs DROP CONSTRAINT runs_state_check, ADD CONSTRAINT runs_state_check
    CHECK (state IN ('planned', 'running', 'finished', 'failed', 'cancelled'));
-- A pointer for each customer to the slate that readers see.
INSERT INTO published (customer_id, run_id, day, published_at)
SELECT DISTINCT ON (slate.customer_id) slate.customer_id, slate.run_id, slate.day, night.published_at
FROM published_runs AS night
JOIN slates AS slate ON slate.run_id = night.run_id AND slate.state = 'complete'
    AND slate.day IN (night.day, date '0001-01-01')
WHERE night.withdrawn_at IS NULL
ORDER BY slate.customer_id, night.precedence DESC, night.run_id DESC, slate.day DESC
ON CONFLICT (customer_id) DO UPDATE
SET run_id = excluded.run_id, day = excluded.day, published_at = excluded.published_at
WHERE (SELECT created_at FROM runs WHERE run_id = published.run_id)
    < (SELECT precedence FROM published_runs WHERE run_id = excluded.run_id);
DROP TABLE published_runs;
ALTER TABLE runs DROP COLUMN pruned_at;
COMMENT ON TABLE published IS NULL;
"""

READING_BEFORE = """
CREATE VIEW current_recommendations AS
SELECT recommendation.customer_id,
       recommendation.rank,
       recommendation.product_id,
       recommendation.product_name,
       recommendation.relevance_score,
       recommendation.provenance,
       recommendation.committed_at,
       recommendation.run_id,
       published.published_at
FROM published
JOIN runs AS run ON run.run_id = published.run_id
JOIN recommendations AS recommendation ON recommendation.run_id = published.run_id
    AND recommendation.customer_id = published.customer_id
    AND recommendation.day = published.day
JOIN products AS product USING (product_id)
WHERE product.available
  AND NOT product.hidden
  AND NOT EXISTS (
      SELECT FROM events AS purchase
      WHERE purchase.customer_id = recommendation.customer_id
        AND purchase.kind = 'purchase'
        AND purchase.product_id = recommendation.product_id
        AND purchase.occurred_at > run.as_of
  );
COMMENT ON VIEW current_recommendations IS
    'Each customer''s published slate, without what has gone out of stock, was hidden, or was purchased since. '
    'provenance offline_ranker means: ranked by word overlap, not by a language model.';
"""


def upgrade() -> None:
    lock(*LOCKED)
    for statements in (PUBLISHED_RUNS, STATES, BINDING.replace("{views}", READING)):
        op.execute(statements)


def downgrade() -> None:
    lock(*LOCKED)
    op.execute(BACK)
    op.execute(READING_BEFORE)

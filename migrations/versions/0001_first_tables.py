"""The first tables: the shop's three, the ledger of runs and slates, the recommendations, and what readers see."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SHOP = """
CREATE TABLE customers (
    customer_id text PRIMARY KEY CHECK (customer_id <> ''),
    active boolean NOT NULL DEFAULT true,
    time_zone text,
    attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE products (
    product_id text PRIMARY KEY CHECK (product_id <> ''),
    name text NOT NULL CHECK (btrim(name) <> ''),
    description text,
    brand text,
    category text,
    price numeric(14, 2) CHECK (price >= 0 AND price <> 'NaN'),
    available boolean NOT NULL DEFAULT true,
    hidden boolean NOT NULL DEFAULT false,
    attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE events (
    event_key uuid PRIMARY KEY,
    customer_id text NOT NULL,
    product_id text,
    kind text NOT NULL CHECK (kind IN ('purchase', 'return', 'view', 'rating', 'search', 'response')),
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    text text,
    occurred_at timestamptz NOT NULL,
    CHECK (product_id IS NOT NULL OR text IS NOT NULL)
);
CREATE INDEX events_by_customer ON events (customer_id, kind, occurred_at DESC);
CREATE INDEX events_by_time ON events (kind, occurred_at);
"""

LEDGER = """
CREATE TABLE runs (
    run_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('nightly', 'on_demand')),
    state text NOT NULL CHECK (state IN ('planned', 'running', 'finished', 'failed', 'cancelled')),
    reason text,
    model text NOT NULL,
    endpoint text NOT NULL,
    provenance text NOT NULL CHECK (provenance IN ('language_model', 'offline_ranker')),
    slate_size integer NOT NULL CHECK (slate_size > 0),
    temperature double precision NOT NULL,
    prompt_version text NOT NULL,
    code_version text NOT NULL,
    as_of timestamptz NOT NULL,
    parameters jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX runs_by_time ON runs (kind, created_at DESC);

CREATE TABLE slates (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    customer_id text NOT NULL,
    shard integer NOT NULL,
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'streaming', 'complete', 'short', 'failed')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    ending text,
    reason text,
    candidate_ids text[],
    input_hash text,
    tokens_in bigint NOT NULL DEFAULT 0,
    tokens_out bigint NOT NULL DEFAULT 0,
    tokens_cached bigint NOT NULL DEFAULT 0,
    first_row_s double precision,
    whole_s double precision,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, customer_id)
);
CREATE INDEX slates_by_shard ON slates (run_id, shard, customer_id);
CREATE INDEX slates_by_customer ON slates (customer_id);

CREATE TABLE recommendations (
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    rank integer NOT NULL CHECK (rank >= 1),
    product_id text NOT NULL,
    product_name text NOT NULL,
    relevance_score double precision NOT NULL CHECK (relevance_score BETWEEN 0 AND 1),
    provenance text NOT NULL CHECK (provenance IN ('language_model', 'offline_ranker')),
    attempt integer NOT NULL CHECK (attempt >= 1),
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, customer_id, rank),
    CONSTRAINT recommendations_product_once UNIQUE (run_id, customer_id, product_id),
    FOREIGN KEY (run_id, customer_id) REFERENCES slates ON DELETE CASCADE
);

CREATE TABLE rejections (
    rejection_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    attempt integer NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    raw text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (run_id, customer_id) REFERENCES slates ON DELETE CASCADE
);
CREATE INDEX rejections_by_slate ON rejections (run_id, customer_id);

CREATE TABLE llm_calls (
    call_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    attempt integer NOT NULL,
    request_id text,
    model text,
    status integer,
    ending text NOT NULL,
    error text,
    tokens_in bigint NOT NULL,
    tokens_out bigint NOT NULL,
    tokens_cached bigint NOT NULL,
    tokens_estimated boolean NOT NULL,
    first_byte_s double precision,
    whole_s double precision,
    ended_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (run_id, customer_id) REFERENCES slates ON DELETE CASCADE
);
CREATE INDEX llm_calls_by_slate ON llm_calls (run_id, customer_id);

CREATE TABLE published (
    customer_id text PRIMARY KEY,
    run_id uuid NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (run_id, customer_id) REFERENCES slates
);
CREATE INDEX published_by_run ON published (run_id);
"""

READING = """
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
JOIN runs AS run USING (run_id)
JOIN recommendations AS recommendation USING (run_id, customer_id)
JOIN products AS product USING (product_id)
WHERE product.available
  AND NOT product.hidden
  AND NOT EXISTS (
      SELECT FROM events AS purchase
      WHERE purchase.customer_id = recommendation.customer_id
        AND purchase.kind = 'purchase'
        AND purchase.product_id = recommendation.product_id
        -- the candidates knew of every purchase up to the run's as-of time, and of none after it
        AND purchase.occurred_at > run.as_of
  );
COMMENT ON VIEW current_recommendations IS
    'Each customer''s published slate, without what has gone out of stock, was hidden, or was purchased since. '
    'provenance offline_ranker means: ranked by word overlap, not by a language model.';
COMMENT ON COLUMN runs.provenance IS
    'language_model, or offline_ranker: ranked by word overlap, which is no language model''s judgement.';
COMMENT ON COLUMN recommendations.provenance IS
    'language_model, or offline_ranker: ranked by word overlap, which is no language model''s judgement.';
COMMENT ON COLUMN recommendations.relevance_score IS '0 to 1: an ordering within one slate, not a probability.';
"""


def upgrade() -> None:
    for statements in (SHOP, LEDGER, READING):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP VIEW current_recommendations")
    op.execute(
        "DROP TABLE published, llm_calls, rejections, recommendations, slates, runs, events, products, customers"
    )

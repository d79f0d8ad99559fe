"""What a night writes a million rows of lies in partitions by day, so that old nights are dropped and not deleted.

`day` is the day (UTC) on which the run was planned. What was there before, and what outlives its day, is `kept`: the
partition of the day '0001-01-01'. Docs: docs/decisions/0016.
"""

from alembic import op

from migrations.locking import lock

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What others have built on the tables would go on to read the rows of before, and no new one.
DEPENDENTS = """
DO $$
DECLARE
    ours CONSTANT oid[] := ARRAY['slates', 'recommendations', 'rejections', 'llm_calls']::regclass[]::oid[];
    found text;
BEGIN
    SELECT string_agg(DISTINCT dependent.what, ', ')
    INTO found
    FROM (
        SELECT 'view ' || rule.ev_class::regclass AS what
        FROM pg_depend AS dependency
        JOIN pg_rewrite AS rule ON rule.oid = dependency.objid
        WHERE dependency.classid = 'pg_rewrite'::regclass AND dependency.refclassid = 'pg_class'::regclass
          AND dependency.refobjid = ANY (ours) AND rule.ev_class <> 'current_recommendations'::regclass
        UNION ALL
        SELECT 'trigger ' || tgname || ' of ' || tgrelid::regclass
        FROM pg_trigger WHERE tgrelid = ANY (ours) AND NOT tgisinternal
        UNION ALL
        SELECT 'publication ' || pubname
        FROM pg_publication_rel JOIN pg_publication AS publication ON publication.oid = prpubid
        WHERE prrelid = ANY (ours)
        UNION ALL
        SELECT 'policy ' || polname || ' of ' || polrelid::regclass
        FROM pg_policy WHERE polrelid = ANY (ours)
        UNION ALL
        SELECT 'foreign key ' || conname || ' of ' || conrelid::regclass
        FROM pg_constraint
        WHERE contype = 'f' AND confrelid = ANY (ours)
          AND conrelid <> ALL (ours) AND conrelid <> 'published'::regclass
    ) AS dependent;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'tables are replaced that % depends on: drop it, and make it again afterwards', found;
    END IF;
END $$;
"""

LOCKED = ("current_recommendations", "published", "runs", "recommendations", "rejections", "llm_calls", "slates")

# With constant defaults no row is rewritten. Each step can be done again after one that was not reached.
COLUMNS = """
ALTER TABLE runs
    ADD COLUMN IF NOT EXISTS day date NOT NULL DEFAULT '0001-01-01',
    ADD COLUMN IF NOT EXISTS shuffle_seed bigint NOT NULL DEFAULT 0;
ALTER TABLE slates
    ADD COLUMN IF NOT EXISTS day date NOT NULL DEFAULT '0001-01-01',
    ADD COLUMN IF NOT EXISTS lease integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS cost numeric(14, 6),
    ADD COLUMN IF NOT EXISTS last_row_s double precision,
    DROP CONSTRAINT IF EXISTS slates_kept, ADD CONSTRAINT slates_kept CHECK (day < '2000-01-01') NOT VALID;
ALTER TABLE recommendations
    ADD COLUMN IF NOT EXISTS day date NOT NULL DEFAULT '0001-01-01',
    DROP CONSTRAINT IF EXISTS recommendations_kept,
    ADD CONSTRAINT recommendations_kept CHECK (day < '2000-01-01') NOT VALID;
ALTER TABLE rejections
    ADD COLUMN IF NOT EXISTS day date NOT NULL DEFAULT '0001-01-01',
    DROP CONSTRAINT IF EXISTS rejections_kept, ADD CONSTRAINT rejections_kept CHECK (day < '2000-01-01') NOT VALID;
ALTER TABLE llm_calls
    ADD COLUMN IF NOT EXISTS day date NOT NULL DEFAULT '0001-01-01',
    DROP CONSTRAINT IF EXISTS llm_calls_kept, ADD CONSTRAINT llm_calls_kept CHECK (day < '2000-01-01') NOT VALID;
ALTER TABLE llm_calls ADD COLUMN IF NOT EXISTS started_at timestamptz;
ALTER TABLE published ADD COLUMN IF NOT EXISTS day date NOT NULL DEFAULT '0001-01-01';
"""

# Readers and writers go on meanwhile: what the swap needs is there before it takes its locks.
WITHOUT_LOCKS = (
    "ALTER TABLE slates VALIDATE CONSTRAINT slates_kept",
    "ALTER TABLE recommendations VALIDATE CONSTRAINT recommendations_kept",
    "ALTER TABLE rejections VALIDATE CONSTRAINT rejections_kept",
    "ALTER TABLE llm_calls VALIDATE CONSTRAINT llm_calls_kept",
    *(
        step
        for index, columns in (
            ("slates_kept_pkey", "slates (run_id, customer_id, day)"),
            ("recommendations_kept_pkey", "recommendations (run_id, customer_id, rank, day)"),
            ("recommendations_kept_product_once", "recommendations (run_id, customer_id, product_id, day)"),
            ("rejections_kept_pkey", "rejections (run_id, customer_id, attempt, rejection_id, day)"),
            ("llm_calls_kept_pkey", "llm_calls (run_id, customer_id, attempt, call_id, day)"),
        )
        for step in (
            f"DROP INDEX CONCURRENTLY IF EXISTS {index}",  # an earlier try may have left half of one
            f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {columns}",
        )
    ),
)

# Locks everything for as long as a catalog change takes: no row is read or written.
SWAP = """
ALTER TABLE published DROP CONSTRAINT published_run_id_customer_id_fkey;
ALTER TABLE llm_calls RENAME TO llm_calls_kept;
ALTER TABLE llm_calls_kept
    DROP CONSTRAINT llm_calls_run_id_customer_id_fkey,
    DROP CONSTRAINT llm_calls_pkey,
    ALTER COLUMN call_id DROP IDENTITY,
    ALTER COLUMN ended_at DROP NOT NULL,
    ALTER COLUMN ended_at DROP DEFAULT;
ALTER TABLE llm_calls_kept RENAME COLUMN call_id TO lease;
ALTER TABLE llm_calls_kept ADD CONSTRAINT llm_calls_kept_pkey PRIMARY KEY USING INDEX llm_calls_kept_pkey;
DROP INDEX llm_calls_by_slate;

ALTER TABLE rejections RENAME TO rejections_kept;
ALTER TABLE rejections_kept
    DROP CONSTRAINT rejections_run_id_customer_id_fkey,
    DROP CONSTRAINT rejections_pkey,
    ALTER COLUMN rejection_id DROP IDENTITY;
ALTER TABLE rejections_kept RENAME COLUMN rejection_id TO number;
ALTER TABLE rejections_kept ADD CONSTRAINT rejections_kept_pkey PRIMARY KEY USING INDEX rejections_kept_pkey;
DROP INDEX rejections_by_slate;

ALTER TABLE recommendations RENAME TO recommendations_kept;
ALTER TABLE recommendations_kept
    DROP CONSTRAINT recommendations_run_id_customer_id_fkey,
    DROP CONSTRAINT recommendations_pkey,
    DROP CONSTRAINT recommendations_product_once;
ALTER TABLE recommendations_kept
    ADD CONSTRAINT recommendations_kept_pkey PRIMARY KEY USING INDEX recommendations_kept_pkey,
    ADD CONSTRAINT recommendations_kept_product_once UNIQUE USING INDEX recommendations_kept_product_once;

ALTER TABLE slates RENAME TO slates_kept;
ALTER TABLE slates_kept DROP CONSTRAINT slates_run_id_fkey, DROP CONSTRAINT slates_pkey;
ALTER TABLE slates_kept ADD CONSTRAINT slates_kept_pkey PRIMARY KEY USING INDEX slates_kept_pkey;
ALTER INDEX slates_by_shard RENAME TO slates_kept_by_shard;
ALTER INDEX slates_by_customer RENAME TO slates_kept_by_customer;
"""

BY_DAY = """
CREATE TABLE slates (
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    day date NOT NULL,
    shard integer NOT NULL,
    state text NOT NULL DEFAULT 'pending'
        CONSTRAINT slates_state_check CHECK (state IN ('pending', 'streaming', 'complete', 'short', 'failed')),
    lease integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0 CONSTRAINT slates_attempts_check CHECK (attempts >= 0),
    ending text,
    reason text,
    candidate_ids text[],
    input_hash text,
    tokens_in bigint NOT NULL DEFAULT 0,
    tokens_out bigint NOT NULL DEFAULT 0,
    tokens_cached bigint NOT NULL DEFAULT 0,
    cost numeric(14, 6),
    first_row_s double precision,
    last_row_s double precision,
    whole_s double precision,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, customer_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX slates_by_shard ON slates (run_id, shard, customer_id);
CREATE INDEX slates_by_customer ON slates (customer_id);
COMMENT ON COLUMN slates.day IS 'The day (UTC) on which the run was planned: the partition. 0001-01-01: kept.';
COMMENT ON COLUMN slates.lease IS
    'Counts who opened the slate: only the last of them writes to it. A fencing token.';
COMMENT ON COLUMN slates.cost IS 'Of all attempts, in the currency of the price list; null without one.';
COMMENT ON COLUMN slates.first_row_s IS 'Seconds from the opening of the slate to its first durable row.';
COMMENT ON COLUMN slates.last_row_s IS 'Seconds from the last opening of the slate to its last durable row.';

CREATE TABLE recommendations (
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    rank integer NOT NULL CONSTRAINT recommendations_rank_check CHECK (rank >= 1),
    day date NOT NULL,
    product_id text NOT NULL,
    product_name text NOT NULL,
    relevance_score double precision NOT NULL
        CONSTRAINT recommendations_relevance_score_check CHECK (relevance_score BETWEEN 0 AND 1),
    provenance text NOT NULL
        CONSTRAINT recommendations_provenance_check CHECK (provenance IN ('language_model', 'offline_ranker')),
    attempt integer NOT NULL CONSTRAINT recommendations_attempt_check CHECK (attempt >= 1),
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, customer_id, rank, day),
    CONSTRAINT recommendations_product_once UNIQUE (run_id, customer_id, product_id, day)
) PARTITION BY RANGE (day);
COMMENT ON COLUMN recommendations.provenance IS
    'language_model, or offline_ranker: ranked by word overlap, which is no language model''s judgement.';
COMMENT ON COLUMN recommendations.relevance_score IS '0 to 1: an ordering within one slate, not a probability.';

CREATE TABLE rejections (
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    attempt integer NOT NULL,
    number bigint NOT NULL,
    day date NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    raw text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, customer_id, attempt, number, day)
) PARTITION BY RANGE (day);
COMMENT ON COLUMN rejections.number IS 'Of the refused objects of one attempt, from 1; any number in rows of before.';

CREATE TABLE llm_calls (
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    attempt integer NOT NULL,
    lease bigint NOT NULL,
    day date NOT NULL,
    request_id text,
    model text,
    status integer,
    ending text NOT NULL,
    error text,
    tokens_in bigint NOT NULL DEFAULT 0,
    tokens_out bigint NOT NULL DEFAULT 0,
    tokens_cached bigint NOT NULL DEFAULT 0,
    tokens_estimated boolean NOT NULL DEFAULT true,
    first_byte_s double precision,
    whole_s double precision,
    started_at timestamptz,
    ended_at timestamptz,
    refused_objects integer NOT NULL DEFAULT 0,
    score_rises integer NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, customer_id, attempt, lease, day)
) PARTITION BY RANGE (day);
COMMENT ON COLUMN llm_calls.lease IS 'The slate''s, when the attempt began; any number in rows of before.';
COMMENT ON COLUMN llm_calls.ending IS
    'How the answer ended; in_flight while it goes on, died where its process ended without a word.';
COMMENT ON COLUMN llm_calls.started_at IS 'When the request was about to be sent; null in rows of before.';
COMMENT ON COLUMN llm_calls.refused_objects IS 'Objects of the answer that are no recommendation; see rejections.';
COMMENT ON COLUMN llm_calls.score_rises IS
    'Recommendations whose score is above that of the one before: a model whose scores do not follow its order.';

ALTER TABLE slates ATTACH PARTITION slates_kept FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
ALTER TABLE recommendations ATTACH PARTITION recommendations_kept FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
ALTER TABLE rejections ATTACH PARTITION rejections_kept FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
ALTER TABLE llm_calls ATTACH PARTITION llm_calls_kept FOR VALUES FROM (MINVALUE) TO ('2000-01-01');

ALTER TABLE runs ALTER COLUMN day DROP DEFAULT, ALTER COLUMN shuffle_seed DROP DEFAULT;
ALTER TABLE published ALTER COLUMN day DROP DEFAULT;
COMMENT ON COLUMN runs.day IS 'The day (UTC) on which it was planned: the partition that its rows lie in.';
COMMENT ON COLUMN runs.shuffle_seed IS 'Orders what is to be shuffled, the same way whenever the run is resumed.';
COMMENT ON COLUMN published.day IS 'The partition that the slate lies in: the day of its run, or 0001-01-01 once kept.';
"""

# Who had been granted what on a table has it on the one that takes its place.
INHERITANCE = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT parent.name, acl.privilege_type, acl.is_grantable,
               CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END AS grantee
        FROM unnest(ARRAY['slates', 'recommendations', 'rejections', 'llm_calls']) AS parent (name)
        JOIN pg_class AS former ON former.oid = to_regclass(parent.name || '{suffix}')
        CROSS JOIN LATERAL aclexplode(former.relacl) AS acl
        WHERE acl.grantee <> former.relowner
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', one.privilege_type, one.name, one.grantee)
                || CASE WHEN one.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END;
    END LOOP;
    FOR one IN
        SELECT parent.name, pg_get_userbyid(former.relowner) AS owner
        FROM unnest(ARRAY['slates', 'recommendations', 'rejections', 'llm_calls']) AS parent (name)
        JOIN pg_class AS former ON former.oid = to_regclass(parent.name || '{suffix}')
        WHERE former.relowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
    LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO %I', one.name, one.owner);
    END LOOP;
END $$;
"""

# A partition is made apart and then attached: that takes no lock which a reader or writer would wait for.
# It runs with its owner's rights, so nothing that its caller could have made is looked at: temporary tables come last.
PREPARE_DAY = """
CREATE FUNCTION recstream_prepare_day(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '3s' AS $$
DECLARE
    parent text;
    partition text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('recstream: partitions'));
    FOREACH parent IN ARRAY ARRAY['slates', 'recommendations', 'rejections', 'llm_calls'] LOOP
        partition := parent || '_' || to_char(wanted, 'YYYYMMDD');
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits
                              WHERE inhparent = parent::regclass AND inhrelid = to_regclass(partition));
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, parent);
        -- a slate and an attempt are updated where they stand, without a new entry in each index
        IF parent IN ('slates', 'llm_calls') THEN
            EXECUTE format('ALTER TABLE %I SET (fillfactor = 70)', partition);
        END IF;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       parent, partition, wanted, wanted + 1);
    END LOOP;
END $$;
COMMENT ON FUNCTION recstream_prepare_day IS 'Makes the partitions of one day, if they are not there.';
REVOKE ALL ON FUNCTION recstream_prepare_day FROM PUBLIC;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION recstream_prepare_day SET search_path = %I, pg_temp', current_schema());
END $$;
"""

# Replaced, not dropped: who may read it still may.
READING = """
CREATE OR REPLACE VIEW current_recommendations AS
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
    AND recommendation.customer_id = published.customer_id{day}
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
"""

# The way back copies every row: it is for the day of a mistake, not for a night. A slate that was being kept when
# pruning broke off lies in its day and among the kept ones: once is enough.
BACK = """
DROP FUNCTION recstream_prepare_day;
ALTER TABLE slates RENAME TO slates_by_day;
ALTER TABLE recommendations RENAME TO recommendations_by_day;
ALTER TABLE rejections RENAME TO rejections_by_day;
ALTER TABLE llm_calls RENAME TO llm_calls_by_day;

CREATE TABLE slates (LIKE slates_by_day INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE slates DROP COLUMN day, DROP COLUMN lease, DROP COLUMN cost, DROP COLUMN last_row_s;
INSERT INTO slates (run_id, customer_id, shard, state, attempts, ending, reason, candidate_ids, input_hash, tokens_in,
                    tokens_out, tokens_cached, first_row_s, whole_s, updated_at)
SELECT DISTINCT ON (run_id, customer_id)
       run_id, customer_id, shard, state, attempts, ending, reason, candidate_ids, input_hash, tokens_in,
       tokens_out, tokens_cached, first_row_s, whole_s, updated_at
FROM slates_by_day ORDER BY run_id, customer_id, day DESC;

CREATE TABLE recommendations (LIKE recommendations_by_day INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS);
ALTER TABLE recommendations DROP COLUMN day;
INSERT INTO recommendations (run_id, customer_id, rank, product_id, product_name, relevance_score, provenance, attempt,
                             committed_at)
SELECT DISTINCT ON (run_id, customer_id, rank)
       run_id, customer_id, rank, product_id, product_name, relevance_score, provenance, attempt, committed_at
FROM recommendations_by_day ORDER BY run_id, customer_id, rank, day DESC;

CREATE TABLE rejections (LIKE rejections_by_day INCLUDING DEFAULTS);
ALTER TABLE rejections DROP COLUMN day, DROP COLUMN number,
    ADD COLUMN rejection_id bigint GENERATED ALWAYS AS IDENTITY;
INSERT INTO rejections (run_id, customer_id, attempt, reason, detail, raw, created_at)
SELECT run_id, customer_id, attempt, reason, detail, raw, created_at FROM rejections_by_day;

CREATE TABLE llm_calls (LIKE llm_calls_by_day INCLUDING DEFAULTS INCLUDING COMMENTS);
ALTER TABLE llm_calls DROP COLUMN day, DROP COLUMN lease, DROP COLUMN started_at,
    ALTER COLUMN ended_at SET DEFAULT now(),
    ADD COLUMN call_id bigint GENERATED ALWAYS AS IDENTITY;
COMMENT ON COLUMN llm_calls.ending IS NULL;
INSERT INTO llm_calls (run_id, customer_id, attempt, request_id, model, status, ending, error, tokens_in, tokens_out,
                       tokens_cached, tokens_estimated, first_byte_s, whole_s, ended_at, refused_objects, score_rises)
SELECT run_id, customer_id, attempt, request_id, model, status, ending, error, tokens_in, tokens_out,
       tokens_cached, tokens_estimated, first_byte_s, whole_s, coalesce(ended_at, started_at, now()), refused_objects,
       score_rises
FROM llm_calls_by_day;
"""

WITHOUT_DAYS = """
DROP TABLE slates_by_day, recommendations_by_day, rejections_by_day, llm_calls_by_day;
ALTER TABLE slates ADD PRIMARY KEY (run_id, customer_id), ADD FOREIGN KEY (run_id) REFERENCES runs ON DELETE CASCADE;
CREATE INDEX slates_by_shard ON slates (run_id, shard, customer_id);
CREATE INDEX slates_by_customer ON slates (customer_id);
ALTER TABLE recommendations
    ADD PRIMARY KEY (run_id, customer_id, rank),
    ADD CONSTRAINT recommendations_product_once UNIQUE (run_id, customer_id, product_id),
    ADD FOREIGN KEY (run_id, customer_id) REFERENCES slates ON DELETE CASCADE;
ALTER TABLE rejections
    ADD PRIMARY KEY (rejection_id),
    ADD FOREIGN KEY (run_id, customer_id) REFERENCES slates ON DELETE CASCADE;
CREATE INDEX rejections_by_slate ON rejections (run_id, customer_id);
ALTER TABLE llm_calls
    ALTER COLUMN ended_at SET NOT NULL,
    ALTER COLUMN tokens_in DROP DEFAULT,
    ALTER COLUMN tokens_out DROP DEFAULT,
    ALTER COLUMN tokens_cached DROP DEFAULT,
    ALTER COLUMN tokens_estimated DROP DEFAULT,
    ADD PRIMARY KEY (call_id),
    ADD FOREIGN KEY (run_id, customer_id) REFERENCES slates ON DELETE CASCADE;
CREATE INDEX llm_calls_by_slate ON llm_calls (run_id, customer_id);
DELETE FROM published AS pointer
WHERE NOT EXISTS (SELECT FROM slates WHERE (run_id, customer_id) = (pointer.run_id, pointer.customer_id));
ALTER TABLE published DROP COLUMN day, ADD FOREIGN KEY (run_id, customer_id) REFERENCES slates;
ALTER TABLE runs DROP COLUMN day, DROP COLUMN shuffle_seed;
"""


def upgrade() -> None:
    op.execute(DEPENDENTS)
    lock(*LOCKED)
    op.execute(COLUMNS)
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LOCKS:
            op.execute(statement)
    reading = READING.format(day="\n    AND recommendation.day = published.day")
    inheritance = INHERITANCE.replace("{suffix}", "_kept")
    lock(*LOCKED)
    for statements in (SWAP, BY_DAY, PREPARE_DAY, reading, inheritance):
        op.execute(statements)


def downgrade() -> None:
    inheritance = INHERITANCE.replace("{suffix}", "_by_day")
    lock(*LOCKED)
    for statements in (BACK, inheritance, READING.format(day=""), WITHOUT_DAYS):
        op.execute(statements)

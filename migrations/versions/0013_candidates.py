"""Candidates are built ahead of the night: which product leads to which, and what each customer has purchased.

A build lies in partitions of its own, and readers go on with the one before until it is ready. Which is in service is
one row, so a switch touches no other. Docs: docs/decisions/0027.
"""

from alembic import op

from migrations.locking import lock

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BUILDS = """
CREATE TABLE candidate_builds (
    build_id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL CHECK (state IN ('building', 'ready', 'failed', 'dropped')),
    trial boolean NOT NULL DEFAULT false,
    method text NOT NULL CHECK (method IN ('sql', 'scipy')),
    as_of timestamptz NOT NULL,
    recipe jsonb NOT NULL,
    reason text,
    customers bigint,
    products bigint,
    purchases bigint,
    pairs bigint,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    in_service_at timestamptz CHECK (isfinite(in_service_at))
);
COMMENT ON TABLE candidate_builds IS 'What candidates were looked up in: one row each time they were built.';
COMMENT ON COLUMN candidate_builds.trial IS 'Built to be measured: never in service.';
COMMENT ON COLUMN candidate_builds.purchases IS 'Different products that a customer purchased, summed over customers.';
COMMENT ON COLUMN candidate_builds.in_service_at IS 'The ready build with the newest is the one in service.';
CREATE TABLE candidate_products (
    build_id integer NOT NULL,
    number integer NOT NULL,
    product_id text NOT NULL,
    buyers integer NOT NULL,
    recent_buyers integer NOT NULL,
    PRIMARY KEY (build_id, number)
) PARTITION BY LIST (build_id);
CREATE INDEX candidate_products_by_id ON candidate_products (product_id);
COMMENT ON COLUMN candidate_products.number IS 'Stands for the product within this build.';
COMMENT ON COLUMN candidate_products.recent_buyers IS 'Who purchased it in the last days before the as-of time.';
CREATE TABLE candidate_neighbours (
    build_id integer NOT NULL,
    number integer NOT NULL,
    neighbours integer[] NOT NULL,
    weights real[] NOT NULL,
    PRIMARY KEY (build_id, number)
) PARTITION BY LIST (build_id);
COMMENT ON TABLE candidate_neighbours IS 'For each product those that its buyers purchased too, heaviest first.';
CREATE TABLE candidate_newcomers (
    build_id integer NOT NULL,
    number integer NOT NULL,
    newcomers integer[] NOT NULL,
    weights real[] NOT NULL,
    PRIMARY KEY (build_id, number)
) PARTITION BY LIST (build_id);
COMMENT ON TABLE candidate_newcomers IS 'For each product the ones hardly anybody has purchased yet that are like it.';
CREATE TABLE candidate_histories (
    build_id integer NOT NULL,
    customer_id text NOT NULL,
    numbers integer[] NOT NULL,
    times smallint[] NOT NULL,
    first_days real[] NOT NULL,
    last_days real[] NOT NULL,
    PRIMARY KEY (build_id, customer_id)
) PARTITION BY LIST (build_id);
COMMENT ON TABLE candidate_histories IS
    'What each customer purchased up to the as-of time: each product once, the newest purchase first.';
COMMENT ON COLUMN candidate_histories.times IS 'On how many days.';
COMMENT ON COLUMN candidate_histories.first_days IS 'Days before the as-of time, of the first purchase.';
COMMENT ON COLUMN candidate_histories.last_days IS 'Days before the as-of time, of the last purchase.';

ALTER TABLE candidate_builds OWNER TO recstream_owner;
ALTER TABLE candidate_products OWNER TO recstream_owner;
ALTER TABLE candidate_neighbours OWNER TO recstream_owner;
ALTER TABLE candidate_newcomers OWNER TO recstream_owner;
ALTER TABLE candidate_histories OWNER TO recstream_owner;
GRANT SELECT, INSERT ON candidate_builds, candidate_products, candidate_neighbours, candidate_newcomers,
    candidate_histories TO recstream_writer;
GRANT UPDATE (state, method, reason, customers, products, purchases, pairs, ended_at, in_service_at)
    ON candidate_builds TO recstream_writer;
"""

# As with the days: a partition is made apart and attached, for which no reader waits. It is small enough to leave at
# once: a reader waits for the moment of a catalog change, and one who reads for long makes us try again later.
# Both run with their owner's rights, so nothing that their caller could have made is looked at.
PARTITIONS = """
CREATE FUNCTION recstream_prepare_build(wanted integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '3s' AS $$
DECLARE
    parent text;
    partition text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('recstream: partitions'));
    IF NOT EXISTS (SELECT FROM candidate_builds WHERE build_id = wanted AND state = 'building') THEN
        RAISE EXCEPTION 'build % is not being made', wanted;
    END IF;
    FOREACH parent IN ARRAY ARRAY['candidate_products', 'candidate_neighbours', 'candidate_newcomers',
                                  'candidate_histories'] LOOP
        partition := parent || '_' || wanted;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES IN (%s)', parent, partition, wanted);
    END LOOP;
END $$;
COMMENT ON FUNCTION recstream_prepare_build IS 'Makes the partitions of a build that has begun.';

CREATE FUNCTION recstream_drop_build(wanted integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '300ms' AS $$
DECLARE
    parent text;
BEGIN
    -- who takes it into service meanwhile waits, and then finds it dropped; or we wait, and then find it in service
    PERFORM FROM candidate_builds WHERE build_id = wanted FOR UPDATE;
    -- nobody erases a customer meanwhile: what he looks through stays there
    PERFORM pg_advisory_xact_lock_shared(hashtext('recstream: purchases are read'));
    IF wanted = (SELECT build_id FROM candidate_builds WHERE in_service_at IS NOT NULL AND state = 'ready'
                 ORDER BY in_service_at DESC, build_id DESC LIMIT 1) THEN
        RAISE EXCEPTION 'build % is in service', wanted USING ERRCODE = 'object_in_use';
    END IF;
    FOREACH parent IN ARRAY ARRAY['candidate_products', 'candidate_neighbours', 'candidate_newcomers',
                                  'candidate_histories'] LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', parent || '_' || wanted);
    END LOOP;
    UPDATE candidate_builds SET state = 'dropped' WHERE build_id = wanted AND state <> 'failed';
END $$;
COMMENT ON FUNCTION recstream_drop_build IS 'Drops the partitions of a build, unless it is in service.';

CREATE FUNCTION recstream_analyze_build(wanted integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['candidate_products', 'candidate_neighbours', 'candidate_newcomers',
                                  'candidate_histories'] LOOP
        EXECUTE format('ANALYZE %I', parent || '_' || wanted);
    END LOOP;
END $$;
COMMENT ON FUNCTION recstream_analyze_build IS 'Has the planner know how much is in the partitions of a build.';

ALTER FUNCTION recstream_prepare_build OWNER TO recstream_owner;
ALTER FUNCTION recstream_drop_build OWNER TO recstream_owner;
ALTER FUNCTION recstream_analyze_build OWNER TO recstream_owner;
REVOKE ALL ON FUNCTION recstream_prepare_build, recstream_drop_build, recstream_analyze_build FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recstream_prepare_build, recstream_drop_build, recstream_analyze_build TO recstream_writer;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION recstream_prepare_build SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION recstream_drop_build SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION recstream_analyze_build SET search_path = %I, pg_temp', current_schema());
END $$;
"""

SLATES = """
ALTER TABLE slates
    ADD COLUMN candidate_scores real[],
    ADD COLUMN candidate_sources text,
    ADD COLUMN candidates_as_of timestamptz,
    ADD COLUMN candidate_build integer,
    ADD COLUMN removed_candidates jsonb;
COMMENT ON COLUMN slates.candidate_ids IS 'In the order in which they were found: best first.';
COMMENT ON COLUMN slates.candidate_sources IS
    'A letter for each candidate: n neighbours, r repeat, p popular, c newcomer, i pinned, a whole catalog.';
COMMENT ON COLUMN slates.removed_candidates IS 'What rules took out: the rule, and the first products it took out.';
GRANT UPDATE (candidate_scores, candidate_sources, candidates_as_of, candidate_build, removed_candidates)
    ON slates TO recstream_writer;
"""

RUNS = """
ALTER TABLE runs ADD COLUMN candidate_build integer;
COMMENT ON COLUMN runs.candidate_build IS
    'The build that its customers'' candidates are looked up in, however often it is resumed; null without one.';
GRANT UPDATE (candidate_build) ON runs TO recstream_writer;
"""


def upgrade() -> None:
    lock("runs", "slates")
    for statements in (BUILDS, PARTITIONS, RUNS, SLATES):
        op.execute(statements)


def downgrade() -> None:
    lock("runs", "slates")
    op.execute("ALTER TABLE runs DROP COLUMN candidate_build")
    op.execute(
        "ALTER TABLE slates DROP COLUMN candidate_scores, DROP COLUMN candidate_sources, "
        "DROP COLUMN candidates_as_of, DROP COLUMN candidate_build, DROP COLUMN removed_candidates"
    )
    op.execute("COMMENT ON COLUMN slates.candidate_ids IS NULL")
    op.execute("DROP FUNCTION recstream_prepare_build, recstream_drop_build, recstream_analyze_build")
    op.execute(
        "DROP TABLE candidate_builds, candidate_products, candidate_neighbours, candidate_newcomers, "
        "candidate_histories"
    )

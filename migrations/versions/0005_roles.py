"""Who may do what: an owner for the tables, a writer for the running service, a reader for those who only query.

The three are roles to be granted, no logins. The service takes on the writer's role even where its login could do more.
Docs: docs/decisions/0017.
"""

from alembic import op

from migrations.locking import lock

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LOCKED = (
    "live_recommendations",
    "current_recommendations",
    "customers",
    "published_runs",
    "published",
    "runs",
    "slates",
    "recommendations",
    "products",
    "events",
    "rejections",
    "llm_calls",
    "alembic_version",
)

# Roles are the cluster's: another database of it may have made them, at this very moment. Whoever makes a role may
# grant it, but from PostgreSQL 16 on has yet to grant it to himself.
ROLES = """
DO $$
DECLARE
    acting CONSTANT text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER'
                                 ELSE 'SET' END;
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['recstream_owner', 'recstream_writer', 'recstream_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
    IF NOT (pg_has_role(current_user, 'recstream_owner', 'USAGE')
            AND pg_has_role(current_user, 'recstream_owner', acting)) THEN
        EXECUTE format('GRANT recstream_owner TO %I', current_user);
    END IF;
    -- A login that has made the tables so far, and uses them, goes on doing so.
    IF NOT pg_has_role(current_user, 'recstream_writer', acting) THEN
        BEGIN
            EXECUTE format('GRANT recstream_writer TO %I', current_user);
        EXCEPTION WHEN insufficient_privilege THEN NULL; -- `recstream init` says what an administrator grants to whom
        END;
    END IF;
    -- Without the right to grant these the statements only warn; what they lack stops what follows.
    IF NOT has_schema_privilege('recstream_owner', current_schema(), 'CREATE') THEN
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO recstream_owner', current_schema());
    END IF;
    FOREACH wanted IN ARRAY ARRAY['recstream_writer', 'recstream_reader'] LOOP
        IF NOT has_schema_privilege(wanted, current_schema(), 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), wanted);
        END IF;
    END LOOP;
END $$;
"""

# All relations of ours, partitions included; what the shop has put in place of the three input tables is the shop's.
OWNED = """
DO $$
DECLARE
    relation record;
BEGIN
    FOR relation IN
        SELECT c.oid::regclass AS name, c.relkind
        FROM pg_class AS c
        WHERE c.relnamespace = current_schema()::regnamespace
          AND c.relkind IN ('r', 'p', 'v')
          AND (c.relname IN ('runs', 'published', 'published_runs', 'alembic_version',
                             'current_recommendations', 'live_recommendations')
               OR c.relname ~ '^(slates|recommendations|rejections|llm_calls)(_kept|_[0-9]{8})?$'
               OR (c.relname IN ('customers', 'products', 'events') AND c.relkind = 'r'))
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO %s',
                       CASE relation.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relation.name, {owner});
    END LOOP;
    EXECUTE format('ALTER FUNCTION recstream_prepare_day OWNER TO %s', {owner});
    EXECUTE format('ALTER FUNCTION recstream_bind_views OWNER TO %s', {owner});
    EXECUTE format('ALTER FUNCTION recstream_refuse_transition OWNER TO %s', {owner});
    EXECUTE format('ALTER FUNCTION recstream_refuse_change OWNER TO %s', {owner});
END $$;
"""

RIGHTS = """
GRANT SELECT, INSERT ON runs, slates TO recstream_writer;
GRANT UPDATE (state, reason, started_at, ended_at) ON runs TO recstream_writer;
GRANT UPDATE (state, lease, attempts, ending, reason, candidate_ids, input_hash, tokens_in, tokens_out, tokens_cached,
              cost, first_row_s, last_row_s, whole_s, updated_at) ON slates TO recstream_writer;
GRANT SELECT, INSERT, UPDATE ON llm_calls, published, published_runs TO recstream_writer;
-- A row, once committed, is nobody's to change.
GRANT SELECT, INSERT ON recommendations, rejections TO recstream_writer;
GRANT SELECT ON alembic_version TO recstream_writer;
GRANT EXECUTE ON FUNCTION recstream_prepare_day TO recstream_writer;
"""

# Whoever makes the views anew, after a DROP … CASCADE of the shop's own, gives them to whom they belong.
VIEWS = """
CREATE FUNCTION recstream_give_views() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $give$
BEGIN
    ALTER VIEW current_recommendations OWNER TO recstream_owner;
    ALTER VIEW live_recommendations OWNER TO recstream_owner;
    GRANT SELECT ON current_recommendations, live_recommendations TO recstream_writer, recstream_reader;
END $give$;
COMMENT ON FUNCTION recstream_give_views IS 'Gives the views their owner and their readers; see recstream_bind_views.';
ALTER FUNCTION recstream_give_views OWNER TO recstream_owner;
REVOKE ALL ON FUNCTION recstream_give_views, recstream_bind_views FROM PUBLIC;
SELECT recstream_give_views();
"""

# The views read with their owner's rights what the reader may not read himself.
INPUTS = """
DO $$
DECLARE
    input record;
BEGIN
    FOR input IN
        SELECT c.oid, c.relname AS name, pg_has_role(current_user, c.relowner, 'USAGE') AS ours
        FROM pg_class AS c
        WHERE c.oid = ANY (ARRAY['customers', 'products', 'events']::regclass[]::oid[])
    LOOP
        IF input.ours THEN
            EXECUTE format('GRANT SELECT ON %I TO recstream_owner', input.name);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO recstream_writer', input.name);
        ELSIF NOT (has_table_privilege('recstream_owner', input.oid, 'SELECT')
                   AND has_table_privilege('recstream_writer', input.oid, 'SELECT')) THEN
            RAISE EXCEPTION '% belongs to another: have it run GRANT SELECT ON % TO recstream_owner, recstream_writer',
                input.name, input.oid::regclass;
        END IF;
    END LOOP;
END $$;
"""

# The roles themselves stay: other databases of the cluster may use them, and logins may have been granted them.
NO_RIGHTS = """
DROP FUNCTION recstream_give_views;
REVOKE ALL ON runs, slates, recommendations, rejections, llm_calls, published, published_runs, alembic_version,
    current_recommendations, live_recommendations FROM recstream_writer, recstream_reader;
REVOKE ALL ON FUNCTION recstream_prepare_day FROM recstream_writer;
DO $$
DECLARE
    input regclass;
BEGIN
    FOR input IN
        SELECT c.oid::regclass
        FROM pg_class AS c
        WHERE c.oid = ANY (ARRAY['customers', 'products', 'events']::regclass[]::oid[])
          AND pg_has_role(current_user, c.relowner, 'USAGE')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM recstream_owner, recstream_writer', input);
    END LOOP;
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM recstream_owner, recstream_writer, recstream_reader',
                   current_schema());
EXCEPTION
    WHEN insufficient_privilege THEN NULL; -- an administrator had granted them, and takes them away
END $$;
"""


def upgrade() -> None:
    op.execute(ROLES)
    lock(*LOCKED)
    for statements in (OWNED.replace("{owner}", "'recstream_owner'"), RIGHTS, VIEWS, INPUTS):
        op.execute(statements)


def downgrade() -> None:
    lock(*LOCKED)
    for statements in (OWNED.replace("{owner}", "quote_ident(current_user)"), NO_RIGHTS):
        op.execute(statements)

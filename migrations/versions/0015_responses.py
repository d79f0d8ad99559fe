"""What became of a recommendation comes back as an event: shown, clicked, bought or refused, of which run and rank.

A shop whose `events` is a view of its own gives the view these columns before; until then everything goes on as it was.
Docs: docs/decisions/0031.
"""

from alembic import op
from sqlalchemy import text

from migrations.locking import lock

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Whether the events are a table that is this login's to change; a partitioned one takes no index without locks.
OURS = text(
    "SELECT relkind FROM pg_class WHERE oid = to_regclass('events') AND relkind IN ('r', 'p') "
    "AND pg_has_role(current_user, relowner, 'USAGE')"
)

REFUSAL = """
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(wanted.name || ' ' || wanted.type, ', ' ORDER BY wanted.place)
    INTO missing
    FROM (VALUES (1, 'run_id', 'uuid'), (2, 'rank', 'integer'), (3, 'response', 'text')) AS wanted (place, name, type)
    WHERE NOT EXISTS (
        SELECT
        FROM pg_attribute AS found
        WHERE found.attrelid = to_regclass('events')
          AND found.attname = wanted.name
          AND NOT found.attisdropped
          AND format_type(found.atttypid, NULL) = wanted.type
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'events is no table of recstream, and lacks columns: add % to it (NULL in every row will do), '
                        'then run `recstream init` again', missing
            USING ERRCODE = 'undefined_column';
    END IF;
END $$;
"""

# Of responses alone those that say something of the customer: what he was merely shown is much more.
INDEX = (
    "INDEX {how} events_answers ON events (customer_id, occurred_at DESC) WHERE kind = 'response' AND value IS NOT NULL"
)

# No row is read under the lock: what stands there has none of the three.
COLUMNS = """
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS run_id uuid,
    ADD COLUMN IF NOT EXISTS rank integer,
    ADD COLUMN IF NOT EXISTS response text,
    DROP CONSTRAINT IF EXISTS events_response_check,
    ADD CONSTRAINT events_response_check CHECK (
        response IN ('shown', 'clicked', 'bought', 'refused') AND kind = 'response' OR response IS NULL) NOT VALID,
    DROP CONSTRAINT IF EXISTS events_rank_check,
    ADD CONSTRAINT events_rank_check CHECK (rank >= 1) NOT VALID;
COMMENT ON COLUMN events.run_id IS 'Of a response: the run whose recommendation it answers.';
COMMENT ON COLUMN events.rank IS 'Of a response: the rank at which the product was shown.';
COMMENT ON COLUMN events.response IS 'What became of the recommendation: shown, clicked, bought or refused.';
"""

# The function that makes the readers' views again asks for every column that recstream reads: now for three more.
ASKED = "('events', 'occurred_at', 'timestamp with time zone')"
ASKED_NOW = (
    f"{ASKED},\n        ('events', 'run_id', 'uuid'), ('events', 'rank', 'integer'), ('events', 'response', 'text')"
)
BINDING = """
DO $$
DECLARE
    standing CONSTANT text := pg_get_functiondef('recstream_bind_views'::regproc);
BEGIN
    IF position({before} IN standing) = 0 THEN
        RAISE EXCEPTION 'recstream_bind_views is not as the version before left it: restore it, and try again';
    END IF;
    EXECUTE replace(standing, {before}, {after});
END $$;
"""

BACK = """
DROP INDEX IF EXISTS events_answers;
ALTER TABLE events
    DROP CONSTRAINT events_response_check, DROP CONSTRAINT events_rank_check,
    DROP COLUMN run_id, DROP COLUMN rank, DROP COLUMN response;
"""


def upgrade() -> None:
    kind = op.get_bind().scalar(OURS)
    if kind is None:
        op.execute(REFUSAL)
    elif kind == "r":
        with op.get_context().autocommit_block():
            op.execute("DROP INDEX CONCURRENTLY IF EXISTS events_answers")  # an earlier try may have left half of one
            op.execute(f"CREATE {INDEX.format(how='CONCURRENTLY')}")
    else:
        op.execute(f"CREATE {INDEX.format(how='IF NOT EXISTS')}")
    if kind is not None:
        lock("events")
        op.execute(COLUMNS)
        op.execute(REFUSAL)  # a column of that name may have been there, of another type
    op.execute(_binding(ASKED, ASKED_NOW))


def downgrade() -> None:
    if op.get_bind().scalar(OURS) is not None:
        lock("events")
        op.execute(BACK)
    op.execute(_binding(ASKED_NOW, ASKED))


def _binding(before: str, after: str) -> str:
    return BINDING.replace("{before}", f"$text${before}$text$").replace("{after}", f"$text${after}$text$")

"""Who has not changed keeps the slate that readers see; a run may try variants against each other."""

from alembic import op

from migrations.locking import lock

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LOCKED = ("runs", "slates")

UNCHANGED = """
ALTER TABLE runs ADD COLUMN unchanged integer;
COMMENT ON COLUMN runs.unchanged IS 'How many of its slates were unchanged when it ended last.';
GRANT UPDATE (unchanged) ON runs TO recstream_writer;
ALTER TABLE slates
    ADD COLUMN content_hash text,
    ADD COLUMN kept_run_id uuid,
    ADD COLUMN kept_rows integer,
    ADD COLUMN variant text;
COMMENT ON COLUMN slates.content_hash IS
    'Over all that the ranking depends on: profile, candidates, prompt, model and settings.';
COMMENT ON COLUMN slates.kept_run_id IS 'Of an unchanged slate: the run whose slate the customer keeps.';
COMMENT ON COLUMN slates.kept_rows IS 'Of an unchanged slate: the rows of that slate.';
COMMENT ON COLUMN slates.variant IS 'Which variant of the run made it; null where there are none.';
-- What stands there already meets the narrower check of before: no row is read under this lock.
ALTER TABLE slates DROP CONSTRAINT slates_state_check, ADD CONSTRAINT slates_state_check
    CHECK (state IN ('pending', 'streaming', 'complete', 'short', 'failed', 'unchanged')) NOT VALID;
DROP TRIGGER slates_state ON slates;
-- What is complete stays complete: readers may have seen it.
CREATE TRIGGER slates_state BEFORE UPDATE OF state ON slates FOR EACH ROW
WHEN (old.state IS DISTINCT FROM new.state)
EXECUTE FUNCTION recstream_refuse_transition(
    'pending>streaming pending>failed pending>unchanged streaming>pending streaming>complete streaming>short '
    'streaming>failed short>streaming failed>streaming',
    'slate');
GRANT UPDATE (content_hash, kept_run_id, kept_rows, variant) ON slates TO recstream_writer;
"""

BACK = """
ALTER TABLE runs DROP COLUMN unchanged;
DROP TRIGGER slates_state ON slates;
UPDATE slates SET state = 'pending' WHERE state = 'unchanged';
CREATE TRIGGER slates_state BEFORE UPDATE OF state ON slates FOR EACH ROW
WHEN (old.state IS DISTINCT FROM new.state)
EXECUTE FUNCTION recstream_refuse_transition(
    'pending>streaming pending>failed streaming>pending streaming>complete streaming>short streaming>failed '
    'short>streaming failed>streaming',
    'slate');
ALTER TABLE slates DROP CONSTRAINT slates_state_check, ADD CONSTRAINT slates_state_check
    CHECK (state IN ('pending', 'streaming', 'complete', 'short', 'failed')) NOT VALID;
ALTER TABLE slates VALIDATE CONSTRAINT slates_state_check;
ALTER TABLE slates DROP COLUMN content_hash, DROP COLUMN kept_run_id, DROP COLUMN kept_rows, DROP COLUMN variant;
"""


def upgrade() -> None:
    lock(*LOCKED)
    op.execute(UNCHANGED)


def downgrade() -> None:
    lock(*LOCKED)
    op.execute(BACK)

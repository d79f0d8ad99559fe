"""A run's shards are written down, with who has which: one that comes back from the dead finds that it has none."""

from alembic import op

from migrations.locking import lock

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SHARDS = """
CREATE TABLE run_shards (
    run_id uuid NOT NULL REFERENCES runs DEFERRABLE INITIALLY DEFERRED, -- planned before their run is written
    shard integer NOT NULL CHECK (shard >= 0),
    customers integer NOT NULL CHECK (customers >= 0),
    tokens bigint CHECK (tokens >= 0),
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'offered', 'serving', 'served', 'broken_off')),
    process uuid,
    machine text,
    offered_at timestamptz,
    taken_at timestamptz,
    ended_at timestamptz,
    reason text,
    error text,
    PRIMARY KEY (run_id, shard)
);
COMMENT ON TABLE run_shards IS
    'The shards of a run, and who serves each: whoever has an earlier attempt than stands here writes nothing.';
COMMENT ON COLUMN run_shards.customers IS 'Its customers follow those of the shard before.';
COMMENT ON COLUMN run_shards.tokens IS 'What they are expected to take, by the night before; null where none is known.';
COMMENT ON COLUMN run_shards.attempt IS 'The fencing token: it rises when the shard is offered anew.';
COMMENT ON COLUMN run_shards.process IS 'Who serves it, as in run_processes: there it says whether he lives.';
COMMENT ON COLUMN run_shards.error IS 'What broke it off, by its name in the program: some end the whole run.';

ALTER TABLE run_shards OWNER TO recstream_owner;
GRANT SELECT, INSERT, UPDATE ON run_shards TO recstream_writer;
"""
INTERRUPTED = """
ALTER TABLE runs ADD COLUMN interrupted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN runs.interrupted IS 'Its process died, or was interrupted: the next night may go on with it.';
GRANT UPDATE (interrupted) ON runs TO recstream_writer;
"""


def upgrade() -> None:
    lock("runs")
    op.execute(SHARDS)
    op.execute(INTERRUPTED)


def downgrade() -> None:
    op.execute("ALTER TABLE runs DROP COLUMN interrupted")
    op.execute("DROP TABLE run_shards")

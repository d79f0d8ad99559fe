"""What is spent is known while it is spent: for each run and each day, reserved before a request is sent."""

from alembic import op

from migrations.locking import lock

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LOCKED = ("llm_calls", "runs")

SPENDING = """
CREATE TABLE spending (
    scope text NOT NULL CHECK (scope IN ('run', 'day')),
    key text NOT NULL,
    cost numeric(20, 8) NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
COMMENT ON TABLE spending IS
    'What a run (its id) and a day (of the shop) have spent where a cap is set: requests in flight are in it with the '
    'most that they can come to, and so are those of processes that died.';
ALTER TABLE spending OWNER TO recstream_owner;
GRANT SELECT, INSERT, UPDATE ON spending TO recstream_writer;
CREATE TABLE spenders (
    spender uuid PRIMARY KEY,
    run_key text NOT NULL,
    day_key text NOT NULL,
    turn bigint NOT NULL DEFAULT 0,
    admitted integer NOT NULL DEFAULT 0,
    ahead integer NOT NULL DEFAULT 0,
    in_flight integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX spenders_by_day ON spenders (day_key);
COMMENT ON TABLE spenders IS 'The processes that spend now: a row leaves with its process, or two days after it died.';
COMMENT ON COLUMN spenders.turn IS 'Its last statement that was committed: one that is sent again changes nothing.';
COMMENT ON COLUMN spenders.admitted IS 'How many requests that statement had room for.';
COMMENT ON COLUMN spenders.ahead IS 'How many more it reserved for, that will come.';
COMMENT ON COLUMN spenders.in_flight IS 'For how many requests it has reserved that may still give something back.';
ALTER TABLE spenders OWNER TO recstream_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON spenders TO recstream_writer;
ALTER TABLE llm_calls ADD COLUMN cost numeric(14, 6);
COMMENT ON COLUMN llm_calls.cost IS 'In the currency of the price list; null without a price.';
ALTER TABLE runs ADD COLUMN cost numeric(14, 6);
COMMENT ON COLUMN runs.cost IS 'Of all its slates when it ended last, in the currency of the price list; null without.';
GRANT UPDATE (cost) ON runs TO recstream_writer;
"""


def upgrade() -> None:
    lock(*LOCKED)
    op.execute(SPENDING)


def downgrade() -> None:
    lock(*LOCKED)
    op.execute(
        "ALTER TABLE runs DROP COLUMN cost; ALTER TABLE llm_calls DROP COLUMN cost; DROP TABLE spenders, spending"
    )

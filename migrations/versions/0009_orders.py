"""What people order of a run while it goes on is written down, with who and when, and outlives its processes."""

from alembic import op

from migrations.locking import lock

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ORDERS = """
CREATE TABLE run_orders (
    order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs,
    kind text NOT NULL CHECK (kind IN ('pause', 'continue', 'drain', 'limit', 'cancel', 'resume')),
    concurrency integer CHECK (concurrency >= 1),
    ordered_by text NOT NULL,
    login text NOT NULL DEFAULT session_user,
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((concurrency IS NOT NULL) <= (kind = 'limit'))
);
CREATE INDEX run_orders_by_run ON run_orders (run_id, order_id);
COMMENT ON TABLE run_orders IS 'What people have ordered of a run, in order; nothing in it is ever changed.';
COMMENT ON COLUMN run_orders.concurrency IS 'Of a limit: requests at a time over all processes; null takes it away.';
COMMENT ON COLUMN run_orders.ordered_by IS 'The login on the machine and its name, as the machine says.';
COMMENT ON COLUMN run_orders.login IS 'The login of the database, as Postgres says: nobody else writes it.';

CREATE VIEW standing_orders AS
SELECT given.order_id, given.run_id, given.kind, given.concurrency,
       given.ordered_by || ' (as ' || given.login || ')' AS ordered_by,
       given.ordered_at
FROM run_orders AS given
WHERE given.kind IN ('pause', 'drain', 'cancel', 'limit')
  AND (given.kind <> 'limit' OR given.concurrency IS NOT NULL)
  AND NOT EXISTS (
      SELECT
      FROM run_orders AS later
      WHERE later.run_id = given.run_id
        AND later.order_id > given.order_id
        AND CASE given.kind
                WHEN 'pause' THEN later.kind IN ('pause', 'continue', 'drain')
                WHEN 'drain' THEN later.kind IN ('drain', 'continue', 'resume')
                WHEN 'cancel' THEN later.kind IN ('cancel', 'resume')
                WHEN 'limit' THEN later.kind = 'limit'
            END
  );
COMMENT ON VIEW standing_orders IS
    'The orders that are in force: no later one ends them. A pause and a limit outlive the resuming of their run.';

ALTER TABLE runs ADD COLUMN ending_at timestamptz;
COMMENT ON COLUMN runs.ending_at IS
    'Since when its slates are made and it is being published: from then on it takes no order.';

CREATE TABLE run_processes (
    run_id uuid NOT NULL REFERENCES runs,
    process uuid NOT NULL,
    heard_of bigint NOT NULL,
    part integer,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, process)
);
COMMENT ON TABLE run_processes IS 'Who works on a run now: one that has not been seen for some seconds has died.';
COMMENT ON COLUMN run_processes.heard_of IS 'The newest order that it knows; 0 for none.';
COMMENT ON COLUMN run_processes.part IS 'What it may have of an ordered limit, requests at a time; null without one.';

ALTER TABLE run_orders OWNER TO recstream_owner;
ALTER VIEW standing_orders OWNER TO recstream_owner;
ALTER TABLE run_processes OWNER TO recstream_owner;
-- Who has the rights of the service can order, but neither in another's name nor at another time.
GRANT SELECT, INSERT (run_id, kind, concurrency, ordered_by) ON run_orders TO recstream_writer;
GRANT UPDATE (ending_at) ON runs TO recstream_writer;
GRANT SELECT ON standing_orders TO recstream_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON run_processes TO recstream_writer;

DROP TRIGGER runs_state ON runs;
-- A failed or cancelled run can be resumed; a finished one is done. A drain can be taken back while it goes on.
CREATE TRIGGER runs_state BEFORE UPDATE OF state ON runs FOR EACH ROW
WHEN (old.state IS DISTINCT FROM new.state)
EXECUTE FUNCTION recstream_refuse_transition(
    'planned>running planned>failed planned>cancelled running>draining running>finished running>failed '
    'running>cancelled draining>running draining>finished draining>failed draining>cancelled failed>running '
    'cancelled>running',
    'state');
"""

BACK = """
DROP TABLE run_processes;
DROP VIEW standing_orders;
DROP TABLE run_orders;
ALTER TABLE runs DROP COLUMN ending_at;
DROP TRIGGER runs_state ON runs;
CREATE TRIGGER runs_state BEFORE UPDATE OF state ON runs FOR EACH ROW
WHEN (old.state IS DISTINCT FROM new.state)
EXECUTE FUNCTION recstream_refuse_transition(
    'planned>running planned>failed planned>cancelled running>draining running>finished running>failed '
    'running>cancelled draining>finished draining>failed draining>cancelled failed>running cancelled>running',
    'state');
"""


def upgrade() -> None:
    lock("runs")
    op.execute(ORDERS)


def downgrade() -> None:
    lock("runs")
    op.execute(BACK)

"""What the shop rules out or in is written down, and readers see at once what they should see no more.

From now on `current_recommendations` leaves out what the shop has banned and what the customer has refused since.
Docs: docs/decisions/0028.
"""

from alembic import op

from migrations.locking import lock

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

RULES = """
CREATE TABLE product_rules (
    rule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id text NOT NULL CHECK (product_id <> ''),
    rule text NOT NULL CHECK (rule IN ('ban', 'pin')),
    reason text NOT NULL CHECK (btrim(reason) <> ''),
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz,
    ordered_by text NOT NULL,
    login text NOT NULL DEFAULT session_user,
    ended_by text
);
COMMENT ON TABLE product_rules IS 'What the shop rules for all customers: never recommend it, or always offer it.';
COMMENT ON COLUMN product_rules.rule IS 'ban: nobody sees it; pin: it is among the candidates of everybody.';
COMMENT ON COLUMN product_rules.until IS 'From then on it is not in force; null is until somebody ends it.';
COMMENT ON COLUMN product_rules.ordered_by IS 'The login on the machine and its name, as the machine says.';
COMMENT ON COLUMN product_rules.login IS 'The login of the database, as Postgres says: nobody else writes it.';
COMMENT ON COLUMN product_rules.ended_by IS 'Who ended it before its time; null where nobody did.';
CREATE VIEW standing_rules AS
SELECT rule_id, product_id, rule, reason, since, until, ordered_by, login
FROM product_rules
WHERE since <= clock_timestamp() AND (until IS NULL OR until > clock_timestamp());
COMMENT ON VIEW standing_rules IS 'The rules of the shop that are in force.';

ALTER TABLE product_rules OWNER TO recstream_owner;
ALTER VIEW standing_rules OWNER TO recstream_owner;
GRANT SELECT ON product_rules, standing_rules TO recstream_writer;
GRANT INSERT (product_id, rule, reason, until, ordered_by) ON product_rules TO recstream_writer;
GRANT UPDATE (until, ended_by) ON product_rules TO recstream_writer;
"""

# The function that makes the readers' views has their text: two places of it change, and it makes them anew.
SINCE = """    -- the candidates knew of every purchase up to the run's as-of time, and of none after it
    SELECT array_agg(purchase.product_id) AS product_ids
    FROM runs AS run
    JOIN events AS purchase ON purchase.occurred_at > run.as_of
    WHERE run.run_id = current.run_id
      AND purchase.customer_id = customer.customer_id
      AND purchase.kind = 'purchase'
"""
SINCE_NOW = """    -- the candidates knew of every purchase and refusal up to the run's as-of time, and of none after it
    SELECT array_agg(purchase.product_id) AS product_ids
    FROM runs AS run
    JOIN events AS purchase ON purchase.occurred_at > run.as_of
    WHERE run.run_id = current.run_id
      AND purchase.customer_id = customer.customer_id
      AND purchase.kind IN ('purchase', 'response')
      AND (purchase.kind = 'purchase' OR purchase.value = 0)
"""
SEEN = "WHERE (recommendation.product_id = ANY (purchased_since.product_ids)) IS NOT TRUE;"
SEEN_NOW = """WHERE (recommendation.product_id = ANY (purchased_since.product_ids)) IS NOT TRUE
  AND recommendation.product_id <> ALL (ARRAY(SELECT product_id FROM standing_rules WHERE rule = 'ban'));"""

BINDING = """
DO $$
DECLARE
    standing text := pg_get_functiondef('recstream_bind_views'::regproc);
BEGIN
    IF position({since} IN standing) = 0 OR position({seen} IN standing) = 0 THEN
        RAISE EXCEPTION 'recstream_bind_views is not as the version before left it: restore it, and try again';
    END IF;
    EXECUTE replace(replace(standing, {since}, {since_now}), {seen}, {seen_now});
    PERFORM recstream_bind_views();
END $$;
"""


def upgrade() -> None:
    lock("current_recommendations", "live_recommendations")
    op.execute(RULES)
    _bind(since=SINCE, since_now=SINCE_NOW, seen=SEEN, seen_now=SEEN_NOW)


def downgrade() -> None:
    lock("current_recommendations", "live_recommendations")
    _bind(since=SINCE_NOW, since_now=SINCE, seen=SEEN_NOW, seen_now=SEEN)
    op.execute("DROP VIEW standing_rules")
    op.execute("DROP TABLE product_rules")


def _bind(**texts: str) -> None:
    statement = BINDING
    for name, text in texts.items():
        statement = statement.replace(f"{{{name}}}", f"$text${text}$text$")
    op.execute(statement)

"""Locks on tables that are in use: all of them or none, and nobody is kept waiting for long meanwhile."""

from alembic import op

# Who waits for a lock keeps all who come later waiting too. A tenth of a second is also less than the time after which
# Postgres looks for a deadlock: it is the migration that gives way, and never a reader.
_TAKING = """
DO $$
DECLARE
    relation record;
BEGIN
    FOR attempt IN 1..30 LOOP
        BEGIN
            SET LOCAL lock_timeout = '100ms';
            FOR relation IN
                SELECT wanted.name, class.relkind
                FROM unnest(ARRAY[{names}]) WITH ORDINALITY AS wanted (name, place)
                JOIN pg_class AS class ON class.oid = to_regclass(wanted.name)
                WHERE pg_has_role(current_user, class.relowner, 'USAGE')
                ORDER BY wanted.place
            LOOP
                IF relation.relkind = 'v' THEN -- LOCK TABLE would lock what the view reads
                    EXECUTE format('ALTER VIEW %I ALTER COLUMN customer_id DROP DEFAULT', relation.name);
                ELSE
                    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', relation.name);
                END IF;
            END LOOP;
            SET LOCAL lock_timeout = '3s';
            RETURN;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN PERFORM pg_sleep(0.05 + random() / 10);
        END;
    END LOOP;
    RAISE EXCEPTION 'lock timeout: somebody else holds the tables for long; look for open transactions, and try again'
        USING ERRCODE = 'lock_not_available';
END $$
"""


def lock(*relations: str) -> None:
    """Lock these tables and views until the end of the transaction, in this order; a view's own tables are not locked.

    What is not there, or belongs to another, is passed over. The order is best the one in which a reader takes them.
    """
    op.execute(_TAKING.replace("{names}", ", ".join(f"'{relation}'" for relation in relations)))

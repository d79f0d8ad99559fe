-- The runs that nobody works on any more, though the ledger has them going on. The caller holds the night, so of nightly
-- ones there is none alive; an on-demand run that is alive holds its lock (see run_lock.py).
WITH going_on AS MATERIALIZED (
    SELECT run_id, day, kind
    FROM runs
    WHERE state IN ('planned', 'running', 'draining')
)
SELECT run_id, day, kind
FROM going_on
WHERE CASE kind
          WHEN 'nightly' THEN true
          ELSE pg_try_advisory_xact_lock(hashtextextended('recstream: run ' || run_id, 0))
      END

-- Whether somebody holds the lock of a run: the night's, or its own (see night_lock.py, run_lock.py).
SELECT EXISTS (
    SELECT
    FROM pg_locks AS held
    WHERE held.locktype = 'advisory'
      AND held.granted
      AND held.objsubid = 1 -- a key of one number
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (CAST(held.classid AS bigint) << 32) | CAST(held.objid AS bigint) = CASE run.kind
              WHEN 'nightly' THEN hashtext(:night)
              ELSE hashtextextended('recstream: run ' || run.run_id, 0)
          END
)
FROM runs AS run
WHERE run.run_id = :run_id

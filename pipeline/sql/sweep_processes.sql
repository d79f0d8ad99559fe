-- Takes away what dead processes left: their places in runs that nobody works on any more, and their parts of limits.
-- Who lives renews his within seconds; a row that somebody holds is his.
WITH silent AS (
    DELETE FROM run_processes
    WHERE (run_id, process) IN (
        SELECT run_id, process
        FROM run_processes
        WHERE seen_at < clock_timestamp() - interval '10 minutes'
        FOR UPDATE SKIP LOCKED
    )
    RETURNING process
),
expired AS (
    DELETE FROM limit_leases
    WHERE (endpoint, model, account, process) IN (
        SELECT endpoint, model, account, process
        FROM limit_leases
        WHERE expires_at < clock_timestamp() - interval '10 minutes'
        FOR UPDATE SKIP LOCKED
    )
    RETURNING process
)
SELECT (SELECT count(*) FROM silent) AS processes, (SELECT count(*) FROM expired) AS leases

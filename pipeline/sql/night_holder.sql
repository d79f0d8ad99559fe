-- Who holds the night: the machine, since when, and the run, once there is one. No row where it was just given back.
SELECT substring(activity.application_name FROM '^recstream night .{16} UTC on (.+)$') AS machine,
       substring(activity.application_name FROM '^recstream night (.{16}) UTC on ') AS since,
       run.run_id
FROM pg_locks AS held
JOIN pg_stat_activity AS activity USING (pid)
LEFT JOIN LATERAL (
    SELECT run_id
    FROM runs
    WHERE kind = 'nightly' AND state IN ('planned', 'running', 'draining')
    ORDER BY created_at DESC
    LIMIT 1
) AS run ON true
WHERE held.locktype = 'advisory'
  AND held.granted
  AND held.objsubid = 1 -- a key of one number
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (CAST(held.classid AS bigint) << 32) | CAST(held.objid AS bigint) = hashtext(:night)

-- One of the runs that the ledger has going on, held until the end of the transaction: the first after `after` that
-- nobody else holds. Whoever begins it anew waits for us, and has its lock by then.
SELECT run_id, day, kind
FROM runs
WHERE state IN ('planned', 'running', 'draining') AND run_id > :after
ORDER BY run_id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED

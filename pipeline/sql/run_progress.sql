-- How far a run is. It counts the run's slates and rows, so whoever watches asks less often in a large run.
SELECT slate.customers, slate.complete, slate.not_complete, slate.unchanged,
       (SELECT count(*) FROM recommendations WHERE run_id = run.run_id AND day = run.day) AS rows
FROM runs AS run
CROSS JOIN LATERAL (
    SELECT count(*) AS customers,
           count(*) FILTER (WHERE state = 'complete') AS complete,
           count(*) FILTER (WHERE state IN ('short', 'failed')) AS not_complete,
           count(*) FILTER (WHERE state = 'unchanged') AS unchanged
    FROM slates
    WHERE run_id = run.run_id AND day = run.day
) AS slate
WHERE run.run_id = :run_id

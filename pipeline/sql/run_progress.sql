-- How far a run is. It counts the run's slates and rows, so whoever watches asks less often in a large run.
SELECT (SELECT count(*) FROM slates WHERE run_id = :run_id) AS customers,
       (SELECT count(*) FROM slates WHERE run_id = :run_id AND state = 'complete') AS complete,
       (SELECT count(*) FROM slates WHERE run_id = :run_id AND state IN ('short', 'failed')) AS not_complete,
       (SELECT count(*) FROM recommendations WHERE run_id = :run_id) AS rows

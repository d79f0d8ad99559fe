-- How far a run is, cheap enough to be asked twice a second.
SELECT (SELECT count(*) FROM slates WHERE run_id = :run_id) AS customers,
       (SELECT count(*) FROM slates WHERE run_id = :run_id AND state = 'complete') AS complete,
       (SELECT count(*) FROM slates WHERE run_id = :run_id AND state IN ('short', 'failed')) AS not_complete,
       (SELECT count(*) FROM recommendations WHERE run_id = :run_id) AS rows

-- How far one shard of a run is. It counts the shard's slates, so whoever watches asks less often in a large one.
SELECT count(*) AS customers,
       count(*) FILTER (WHERE state = 'complete') AS complete,
       count(*) FILTER (WHERE state IN ('short', 'failed')) AS not_complete,
       count(*) FILTER (WHERE state = 'unchanged') AS unchanged
FROM slates
WHERE run_id = :run_id AND day = :day AND shard = :shard

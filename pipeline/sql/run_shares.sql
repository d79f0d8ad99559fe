-- How many customers of each shard of a run have what they are to have: a complete slate, or one that is unchanged.
SELECT shard, count(*) FILTER (WHERE state IN ('complete', 'unchanged')) AS served
FROM slates
WHERE run_id = :run_id AND day = :day
GROUP BY shard

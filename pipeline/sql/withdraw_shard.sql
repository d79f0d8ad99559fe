-- Takes a shard back from whoever has this attempt at it, and gives it to nobody. See offer_shard.sql.
-- How it stood comes back if it was so: one that has ended, or was offered anew since, is left as it is.
WITH out AS MATERIALIZED (
    SELECT run_id, shard, state
    FROM run_shards
    WHERE run_id = :run_id AND shard = :shard AND attempt = :attempt AND state IN ('offered', 'serving')
    FOR UPDATE
)
UPDATE run_shards AS shard
SET attempt = attempt + 1, state = 'waiting', process = NULL, machine = NULL, taken_at = NULL
FROM out
WHERE shard.run_id = out.run_id AND shard.shard = out.shard
RETURNING out.state

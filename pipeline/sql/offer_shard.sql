-- A new attempt at a shard: whoever had it opens no slate any more. What he has open is taken by fence_shard.sql.
-- A run of before shards were written down gets its row here.
WITH offered AS (
    INSERT INTO run_shards AS shard (run_id, shard, customers, attempt, state, offered_at)
    SELECT :run_id, :shard, count(*), 1, 'offered', clock_timestamp()
    FROM slates
    WHERE run_id = :run_id AND day = CAST(:day AS date) AND shard = :shard
    ON CONFLICT (run_id, shard)
        DO UPDATE SET attempt = shard.attempt + 1,
                      state = 'offered',
                      offered_at = excluded.offered_at,
                      process = NULL,
                      machine = NULL,
                      taken_at = NULL,
                      ended_at = NULL,
                      reason = NULL,
                      error = NULL
    RETURNING attempt
)
SELECT attempt FROM offered

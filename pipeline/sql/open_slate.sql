-- Takes the lease of a slate that is neither complete nor unchanged: whoever opened it before writes nothing to it any more.
-- `shard_attempt` is the newest of the slate's shard, or nothing is opened; null where nobody serves a shard. It stays the
-- newest until the slate is open: the lock is against who would offer the shard anew.
WITH held AS MATERIALIZED (
    SELECT shard.attempt
    FROM run_shards AS shard
    WHERE shard.run_id = :run_id AND shard.shard = CAST(:shard AS integer)
    FOR SHARE
)
UPDATE slates
SET state = 'streaming',
    lease = lease + 1,
    candidate_ids = CAST(:candidate_ids AS text[]),
    candidate_scores = CAST(:candidate_scores AS real[]),
    candidate_sources = CAST(:candidate_sources AS text),
    candidates_as_of = CAST(:as_of AS timestamptz),
    candidate_build = CAST(:build AS integer),
    removed_candidates = CAST(:removed AS jsonb),
    variant = :variant,
    reason = NULL,
    updated_at = now()
WHERE run_id = :run_id
  AND day = CAST(:day AS date)
  AND customer_id = :customer_id
  AND state NOT IN ('complete', 'unchanged')
  AND (CAST(:shard_attempt AS integer) IS NULL OR CAST(:shard_attempt AS integer) = (SELECT attempt FROM held))
RETURNING lease, attempts, first_row_s

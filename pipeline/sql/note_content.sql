-- Writes down what each slate of a page is made from, and ends those that nobody has begun and whose customers keep an
-- earlier one. Returns the customers whose slates are unchanged. Done twice it does the same.
-- A slate that was begun with other content is of both: no later one can be the same as it.
-- The slates are locked in one order, as by others who do this: two that lock in two orders would wait for ever.
-- Where `shard_attempt` is not the newest of the shard, nothing is written (see open_slate.sql).
WITH ours AS MATERIALIZED (
    SELECT shard.attempt
    FROM run_shards AS shard
    WHERE shard.run_id = :run_id AND shard.shard = CAST(:shard AS integer)
    FOR SHARE
),
held AS MATERIALIZED (
    SELECT slate.customer_id, told.content_hash, told.variant, told.kept_run_id, told.kept_rows,
           slate.state = 'pending' AND slate.attempts = 0 AS is_untouched
    FROM slates AS slate
    JOIN unnest(
        CAST(:customer_ids AS text[]), CAST(:content_hashes AS text[]), CAST(:variants AS text[]),
        CAST(:kept_run_ids AS uuid[]), CAST(:kept_rows AS integer[])
    ) AS told (customer_id, content_hash, variant, kept_run_id, kept_rows) USING (customer_id)
    WHERE slate.run_id = :run_id
      AND slate.day = CAST(:day AS date)
      AND slate.state <> 'complete'
      AND (CAST(:shard_attempt AS integer) IS NULL OR CAST(:shard_attempt AS integer) = (SELECT attempt FROM ours))
    ORDER BY slate.customer_id
    FOR NO KEY UPDATE OF slate
),
noted AS (
    UPDATE slates AS slate
    SET content_hash = CASE
            WHEN held.is_untouched OR slate.content_hash = held.content_hash THEN held.content_hash ELSE 'mixed'
        END,
        state = CASE WHEN held.is_untouched AND held.kept_run_id IS NOT NULL THEN 'unchanged' ELSE slate.state END,
        variant = CASE WHEN held.is_untouched THEN held.variant ELSE slate.variant END,
        kept_run_id = CASE WHEN held.is_untouched THEN held.kept_run_id ELSE slate.kept_run_id END,
        kept_rows = CASE WHEN held.is_untouched THEN held.kept_rows ELSE slate.kept_rows END,
        updated_at = now()
    FROM held
    WHERE slate.run_id = :run_id
      AND slate.day = CAST(:day AS date)
      AND slate.customer_id = held.customer_id
    RETURNING slate.customer_id, slate.state
)
SELECT customer_id FROM noted WHERE state = 'unchanged'

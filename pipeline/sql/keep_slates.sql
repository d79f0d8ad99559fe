-- Copies these slates and their rows from the partition of their day to that of 0001-01-01, where they outlive it.
-- What has been copied before stays as it is. A slate that is being erased is waited for, and neither it nor its rows
-- are copied: the rows come from the slates that are locked here, not from the customers that were asked for.
-- `run_ids` and `customer_ids` are of equal length: a pair for each slate.
WITH wanted AS (
    SELECT * FROM unnest(CAST(:run_ids AS uuid[]), CAST(:customer_ids AS text[])) AS wanted (run_id, customer_id)
),
held AS MATERIALIZED (
    SELECT slate.*
    FROM wanted
    JOIN slates AS slate USING (run_id, customer_id)
    WHERE slate.day = CAST(:day AS date)
    FOR SHARE OF slate
),
kept AS (
    INSERT INTO slates (run_id, customer_id, day, shard, state, lease, attempts, ending, reason, candidate_ids, input_hash,
                        tokens_in, tokens_out, tokens_cached, cost, first_row_s, last_row_s, whole_s, updated_at,
                        content_hash, kept_run_id, kept_rows, variant, candidate_scores, candidate_sources,
                        candidates_as_of, candidate_build, removed_candidates)
    SELECT slate.run_id, slate.customer_id, date '0001-01-01', slate.shard, slate.state, slate.lease, slate.attempts,
           slate.ending, slate.reason, slate.candidate_ids, slate.input_hash, slate.tokens_in, slate.tokens_out,
           slate.tokens_cached, slate.cost, slate.first_row_s, slate.last_row_s, slate.whole_s, slate.updated_at,
           slate.content_hash, slate.kept_run_id, slate.kept_rows, slate.variant, slate.candidate_scores,
           slate.candidate_sources, slate.candidates_as_of, slate.candidate_build, slate.removed_candidates
    FROM held AS slate
    ON CONFLICT DO NOTHING
),
placed_too AS (
    INSERT INTO recommendations (run_id, customer_id, rank, day, product_id, product_name, relevance_score, provenance,
                                 attempt, committed_at, model)
    SELECT run_id, customer_id, placed.rank, date '0001-01-01', placed.product_id, placed.product_name,
           placed.relevance_score, placed.provenance, placed.attempt, placed.committed_at, placed.model
    FROM held
    JOIN recommendations AS placed USING (run_id, customer_id)
    WHERE placed.day = CAST(:day AS date)
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM held

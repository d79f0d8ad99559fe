-- What the last nights of a model have come to, of the customers whom its own prompt was for: a row, or none without one.
-- Seconds in which no answer ended are not counted: a run may have stood still before it was resumed.
WITH last AS (
    SELECT run_id, day, slate_size
    FROM runs AS run
    WHERE kind = 'nightly'
      AND model = :model
      AND provenance = :provenance
      AND prompt_version = :prompt_version
      AND ended_at IS NOT NULL
      AND pruned_at IS NULL
      AND EXISTS (SELECT FROM llm_calls WHERE run_id = run.run_id AND day = run.day AND tokens_in > 0)
    ORDER BY created_at DESC
    LIMIT 3
),
asked AS (
    SELECT slate.run_id, slate.day, slate.customer_id,
           least(last.slate_size, cardinality(slate.candidate_ids)) AS wanted
    FROM last
    JOIN slates AS slate USING (run_id, day)
    WHERE slate.attempts > 0
      AND coalesce(slate.variant, 'control') = 'control'
),
called AS (
    SELECT call.run_id, call.attempt, call.tokens_in, call.tokens_out, call.tokens_cached, call.whole_s, call.ended_at
    FROM asked
    JOIN llm_calls AS call USING (run_id, day, customer_id)
    WHERE call.endpoint IS NULL
)
SELECT slate.*, call.*
FROM (SELECT count(DISTINCT run_id) AS runs, count(*) AS slates, sum(wanted)::bigint AS rows FROM asked) AS slate
CROSS JOIN (
    SELECT count(*) AS requests,
           count(*) FILTER (WHERE tokens_in > 0) AS answers,
           coalesce(sum(tokens_in), 0)::bigint AS tokens_in,
           coalesce(sum(tokens_out), 0)::bigint AS tokens_out,
           coalesce(sum(tokens_cached), 0)::bigint AS tokens_cached,
           coalesce(avg(tokens_in) FILTER (WHERE attempt = 1 AND tokens_in > 0), 0)::double precision AS first_tokens_in,
           coalesce(sum(whole_s), 0) AS answering_s,
           count(DISTINCT (run_id, date_trunc('second', ended_at))) AS busy_s
    FROM called
) AS call
WHERE call.answers > 0

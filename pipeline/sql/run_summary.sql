-- What a run has come to, in one row: customers by state, rows, refused objects, tokens, the times to the first row, and
-- what readers see of it. A pruned run is counted by what was kept of it, which is only what readers saw.
SELECT run.run_id, run.kind, run.state, run.reason, run.model, run.endpoint, run.provenance, run.slate_size,
       run.prompt_version, run.parameters ->> 'currency' AS currency, run.created_at, run.started_at, run.ended_at, run.pruned_at,
       extract(epoch FROM coalesce(run.ended_at, now()) - run.started_at)::double precision AS duration_s,
       slate.*,
       (SELECT count(*) FROM recommendations WHERE run_id = run.run_id AND day = run.read_day) AS rows,
       (SELECT count(*) FROM recommendations
        WHERE run_id = run.run_id AND day = run.read_day AND model IS NOT NULL) AS rows_of_others,
       (SELECT count(*) FROM rejections WHERE run_id = run.run_id AND day = run.read_day) AS refused_objects,
       (SELECT count(*) FROM llm_calls WHERE run_id = run.run_id AND day = run.read_day AND ending = 'died') AS died,
       CASE WHEN night.run_id IS NULL THEN one.slates WHEN night.withdrawn_at IS NULL THEN slate.complete ELSE 0 END
           AS published,
       coalesce(night.published_at, one.published_at) AS published_at,
       night.withdrawn_at
FROM (
    SELECT *, CASE WHEN pruned_at IS NULL THEN day ELSE date '0001-01-01' END AS read_day FROM runs WHERE run_id = :run_id
) AS run
LEFT JOIN published_runs AS night USING (run_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS slates, max(published_at) AS published_at FROM published WHERE run_id = run.run_id
) AS one
CROSS JOIN LATERAL (
    SELECT count(*) AS customers,
           count(*) FILTER (WHERE state = 'complete') AS complete,
           count(*) FILTER (WHERE state = 'short') AS short,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state IN ('pending', 'streaming')) AS unfinished,
           count(*) FILTER (WHERE state = 'unchanged') AS unchanged,
           -- what `pipeline.retrying.last_resort` says of a slate
           count(*) FILTER (WHERE state = 'complete' AND reason LIKE 'filled up in retrieval order%') AS filled_up,
           coalesce(sum(tokens_in), 0)::bigint AS tokens_in,
           coalesce(sum(tokens_out), 0)::bigint AS tokens_out,
           coalesce(sum(tokens_cached), 0)::bigint AS tokens_cached,
           sum(cost) AS cost,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY first_row_s) AS first_row_p50_s,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY first_row_s) AS first_row_p95_s
    FROM slates
    WHERE run_id = run.run_id AND day = run.read_day
) AS slate

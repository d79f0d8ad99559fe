-- What a run has come to, in one row: customers by state, rows, refused objects, tokens, and the times to the first row.
SELECT run.run_id, run.kind, run.state, run.reason, run.model, run.endpoint, run.provenance, run.slate_size,
       run.prompt_version, run.created_at, run.started_at, run.ended_at,
       extract(epoch FROM coalesce(run.ended_at, now()) - run.started_at)::double precision AS duration_s,
       slate.*,
       (SELECT count(*) FROM recommendations WHERE run_id = run.run_id) AS rows,
       (SELECT count(*) FROM rejections WHERE run_id = run.run_id) AS refused_objects,
       (SELECT count(*) FROM published WHERE run_id = run.run_id) AS published
FROM runs AS run
CROSS JOIN LATERAL (
    SELECT count(*) AS customers,
           count(*) FILTER (WHERE state = 'complete') AS complete,
           count(*) FILTER (WHERE state = 'short') AS short,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state IN ('pending', 'streaming')) AS unfinished,
           coalesce(sum(tokens_in), 0)::bigint AS tokens_in,
           coalesce(sum(tokens_out), 0)::bigint AS tokens_out,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY first_row_s) AS first_row_p50_s,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY first_row_s) AS first_row_p95_s
    FROM slates
    WHERE run_id = run.run_id
) AS slate
WHERE run.run_id = :run_id

-- The nights that readers came to see within a window, oldest first; or the one run that is named, of whatever kind.
SELECT run.run_id, run.day, run.as_of, run.model, run.provenance, run.pruned_at IS NOT NULL AS pruned,
       coalesce(run.parameters -> 'variants', '[]') AS variants,
       shown.published_at, coalesce(shown.withdrawn_at, '9999-01-01') AS seen_until, shown.precedence
FROM (
    SELECT run_id, published_at, withdrawn_at, precedence FROM published_runs
    UNION ALL
    SELECT one.run_id, min(one.published_at), CAST(NULL AS timestamptz), min(run.created_at)
    FROM published AS one
    JOIN runs AS run USING (run_id)
    WHERE one.run_id = CAST(:run_id AS uuid) AND run.kind = 'on_demand'
    GROUP BY one.run_id
) AS shown
JOIN runs AS run USING (run_id)
WHERE shown.run_id = CAST(:run_id AS uuid)
   OR (CAST(:run_id AS uuid) IS NULL AND shown.published_at > :since AND shown.published_at <= :until)
ORDER BY shown.published_at, shown.run_id

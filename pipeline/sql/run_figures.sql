-- What the gates judge of a run: its customers, its slates and their rows, and the objects that were refused.
-- The rows of complete slates are all rows less those of the others, which are few. Unchanged slates have no rows here:
-- `kept_rows` are those that their customers go on seeing. One that leads to a run rolled back meanwhile serves nobody.
SELECT slate.planned, slate.complete, slate.unchanged, slate.kept_rows, slate.filled_up,
       row.committed - (
           SELECT count(*)
           FROM slates AS other
           JOIN recommendations AS left_over USING (run_id, customer_id, day)
           WHERE other.run_id = run.run_id AND other.day = run.day
             AND other.state NOT IN ('complete', 'unchanged')
       ) AS rows,
       row.committed,
       (SELECT count(*) FROM rejections WHERE run_id = run.run_id AND day = run.day) AS refused
FROM runs AS run
CROSS JOIN LATERAL (
    SELECT count(*) AS planned,
           count(*) FILTER (WHERE state = 'complete') AS complete,
           count(*) FILTER (WHERE state = 'complete' AND reason LIKE 'filled up in retrieval order%') AS filled_up,
           count(*) FILTER (WHERE is_kept) AS unchanged,
           coalesce(sum(kept_rows) FILTER (WHERE is_kept), 0)::bigint AS kept_rows
    FROM (
        SELECT state, reason, kept_rows,
               state = 'unchanged' AND (
                   kept_run_id IN (SELECT run_id FROM published_runs WHERE withdrawn_at IS NULL)
                   OR EXISTS (
                       SELECT FROM published AS one
                       WHERE one.customer_id = slates.customer_id AND one.run_id = slates.kept_run_id
                   )
               ) AS is_kept
        FROM slates
        WHERE run_id = run.run_id AND day = run.day
    ) AS its
) AS slate
CROSS JOIN LATERAL (
    SELECT count(*) AS committed FROM recommendations WHERE run_id = run.run_id AND day = run.day
) AS row
WHERE run.run_id = :run_id

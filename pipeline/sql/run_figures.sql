-- What the gates judge of a run: its customers, its slates and their rows, and the objects that were refused.
-- The rows of complete slates are all rows less those of the others, which are few.
SELECT slate.planned, slate.complete,
       row.committed - (
           SELECT count(*)
           FROM slates AS other
           JOIN recommendations AS left_over USING (run_id, customer_id, day)
           WHERE other.run_id = run.run_id AND other.day = run.day AND other.state <> 'complete'
       ) AS rows,
       row.committed,
       (SELECT count(*) FROM rejections WHERE run_id = run.run_id AND day = run.day) AS refused
FROM runs AS run
CROSS JOIN LATERAL (
    SELECT count(*) AS planned, count(*) FILTER (WHERE state = 'complete') AS complete
    FROM slates
    WHERE run_id = run.run_id AND day = run.day
) AS slate
CROSS JOIN LATERAL (
    SELECT count(*) AS committed FROM recommendations WHERE run_id = run.run_id AND day = run.day
) AS row
WHERE run.run_id = :run_id

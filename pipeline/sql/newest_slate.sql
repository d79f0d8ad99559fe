-- The customer's slate in one run, or (run_id null) in the newest run that has one for him, finished or not.
-- Of a slate that is being kept there are two for a moment: the day's is taken.
SELECT run.run_id, run.kind, run.state AS run_state, run.provenance, run.created_at,
       slate.state, slate.reason, slate.attempts, slate.first_row_s, slate.whole_s
FROM slates AS slate
JOIN runs AS run USING (run_id)
WHERE slate.customer_id = :customer_id
  AND (CAST(:run_id AS uuid) IS NULL OR slate.run_id = CAST(:run_id AS uuid))
ORDER BY run.created_at DESC, slate.day DESC
LIMIT 1

-- The rows that earlier openers committed. Their attempts that are still in flight are known to be over: their processes
-- died, or will find the lease gone and say so. It runs after open_slate.sql has returned, so that it sees whatever was
-- committed before the lease was taken.
WITH died AS (
    UPDATE llm_calls
    SET ending = 'died', ended_at = now()
    WHERE run_id = :run_id
      AND day = CAST(:day AS date)
      AND customer_id = :customer_id
      AND lease < CAST(:lease AS bigint)
      AND ending = 'in_flight'
)
SELECT rank, product_id, product_name, relevance_score
FROM recommendations
WHERE run_id = :run_id
  AND day = CAST(:day AS date)
  AND customer_id = :customer_id
ORDER BY rank

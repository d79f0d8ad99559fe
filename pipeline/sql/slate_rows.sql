-- The rows of one customer in one run that come after a rank, in their order. They lie where their slate does.
SELECT recommendation.rank, recommendation.product_id, recommendation.product_name, recommendation.relevance_score,
       recommendation.committed_at
FROM (
    SELECT slate.day
    FROM runs AS run
    JOIN slates AS slate ON slate.run_id = run.run_id AND slate.day IN (run.day, date '0001-01-01')
    WHERE run.run_id = :run_id
      AND slate.customer_id = :customer_id
    ORDER BY slate.day DESC
    LIMIT 1
) AS slate
CROSS JOIN LATERAL (
    SELECT *
    FROM recommendations
    WHERE run_id = :run_id
      AND customer_id = :customer_id
      AND day = slate.day
      AND rank > :after
    ORDER BY rank
) AS recommendation
ORDER BY recommendation.rank

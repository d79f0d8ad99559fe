-- The rows of one customer in one run that come after a rank, in their order.
SELECT rank, product_id, product_name, relevance_score, committed_at
FROM recommendations
WHERE run_id = :run_id
  AND customer_id = :customer_id
  AND rank > :after
ORDER BY rank

-- The customer's published slate as readers see it now: one statement, so that it is all of one run.
SELECT run_id, rank, product_id, product_name, relevance_score, provenance, committed_at, published_at
FROM current_recommendations
WHERE customer_id = :customer_id
ORDER BY rank

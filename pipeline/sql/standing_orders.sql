-- The orders of a run that are in force, the oldest first.
SELECT kind, concurrency, ordered_by, ordered_at
FROM standing_orders
WHERE run_id = :run_id
ORDER BY order_id

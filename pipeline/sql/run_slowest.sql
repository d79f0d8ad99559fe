-- The slates of a run that took longest to be whole, the slowest first.
SELECT customer_id, whole_s, first_row_s, attempts
FROM slates
WHERE run_id = :run_id AND day = :day AND state = 'complete' AND whole_s IS NOT NULL
ORDER BY whole_s DESC, customer_id
LIMIT :most

-- So many of the customers whom a run would be planned for, drawn at random: each is as likely as any other.
-- `most` bounds the run, or is null.
SELECT customer_id
FROM (
    SELECT customer_id
    FROM customers
    WHERE active
    ORDER BY customer_id
    LIMIT CAST(:most AS bigint)
) AS planned
ORDER BY random()
LIMIT :sample

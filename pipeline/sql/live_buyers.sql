-- How many customers purchased anything within the window, whatever they saw.
SELECT count(DISTINCT customer_id) AS buyers
FROM events
WHERE kind = 'purchase' AND product_id IS NOT NULL AND occurred_at > :since AND occurred_at <= :until

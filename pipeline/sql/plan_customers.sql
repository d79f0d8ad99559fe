-- The customers whom a run would be planned for, in the order of their ids: one page after a given one (keyset pages).
SELECT customer_id
FROM customers
WHERE active
  AND customer_id > :after
ORDER BY customer_id
LIMIT :page

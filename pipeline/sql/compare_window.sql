-- The window in which purchases count, which does not reach beyond now, and whether there are any in it.
SELECT win.until,
       EXISTS (
           SELECT FROM events
           WHERE kind = 'purchase' AND product_id IS NOT NULL AND occurred_at > :since AND occurred_at <= win.until
       ) AS purchases
FROM (SELECT least(CAST(:until AS timestamptz), now()) AS until) AS win

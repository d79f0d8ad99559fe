-- The first and the last purchase up to now, and how many lie in the future. Each reads the index (kind, occurred_at).
SELECT (SELECT min(occurred_at) FROM events WHERE kind = 'purchase' AND product_id IS NOT NULL) AS first,
       (
           SELECT max(occurred_at)
           FROM events
           WHERE kind = 'purchase' AND product_id IS NOT NULL AND occurred_at <= now()
       ) AS last,
       (
           SELECT count(*)
           FROM events
           WHERE kind = 'purchase' AND product_id IS NOT NULL AND occurred_at > now()
       ) AS future

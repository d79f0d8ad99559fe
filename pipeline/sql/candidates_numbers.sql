-- A number for each product: of the catalog, those too that nobody has purchased; and of those that have left it since,
-- for who purchased one is still like others who did.
INSERT INTO recstream_numbers (number, product_id)
SELECT row_number() OVER (ORDER BY product_id COLLATE "C"), product_id
FROM (
    SELECT product_id FROM products
    UNION
    SELECT product_id
    FROM events
    WHERE kind = 'purchase'
      AND product_id IS NOT NULL
      AND occurred_at <= CAST(:as_of AS timestamptz)
) AS known

-- The products that may be recommended, by buyers in the days before the as-of time: the first `most` of each category,
-- and the first `most` of all (category null). Products nobody bought follow, so that a new shop has candidates too.
-- Where nobody bought anything in these days, all the days before count.
WITH lately AS (
    SELECT product_id, count(DISTINCT customer_id) AS buyers
    FROM events
    WHERE kind = 'purchase'
      AND product_id IS NOT NULL
      AND occurred_at > CAST(:as_of AS timestamptz) - make_interval(days => :days)
      AND occurred_at <= :as_of
    GROUP BY product_id
),
bought AS (
    SELECT product_id, buyers FROM lately
    UNION ALL
    SELECT product_id, count(DISTINCT customer_id)
    FROM events
    WHERE NOT EXISTS (SELECT FROM lately)
      AND kind = 'purchase'
      AND product_id IS NOT NULL
      AND occurred_at <= :as_of
    GROUP BY product_id
),
placed AS (
    SELECT product.product_id, product.name, product.brand, product.category, product.price,
           row_number() OVER (ORDER BY bought.buyers DESC NULLS LAST, product.product_id) AS place_of_all,
           row_number() OVER (
               PARTITION BY product.category ORDER BY bought.buyers DESC NULLS LAST, product.product_id
           ) AS place_in_category
    FROM products AS product
    LEFT JOIN bought USING (product_id)
    WHERE product.available
      AND NOT product.hidden
      AND product.product_id <> ALL (ARRAY(SELECT product_id FROM standing_rules WHERE rule = 'ban'))
)
SELECT product_id, name, brand, category, CAST(price AS double precision) AS price, place_of_all, place_in_category
FROM placed
WHERE place_of_all <= :most
   OR (category IS NOT NULL AND place_in_category <= :most)
ORDER BY place_of_all

-- The next customers, and what each purchased from :begins on and before :until: products that he had never purchased
-- (new_products) and that he had (repeated). `orders` are the days of his purchases before; `owned`
-- are those of the products in :popular that he had purchased before.
-- The page's purchases are read together: where one customer made most of a shop's, a plan for each customer would read
-- the whole table for every one of them.
WITH page AS MATERIALIZED (
    SELECT customer_id
    FROM customers
    WHERE customer_id > :after
    ORDER BY customer_id
    LIMIT :page
),
bought AS (
    SELECT event.customer_id,
           event.product_id,
           bool_or(event.occurred_at < :begins) AS before,
           bool_or(event.occurred_at >= :begins) AS later
    FROM page
    JOIN events AS event USING (customer_id)
    WHERE event.kind = 'purchase' AND event.product_id IS NOT NULL AND event.occurred_at < :until
    GROUP BY event.customer_id, event.product_id
),
told AS (
    SELECT customer_id,
           array_agg(product_id) FILTER (WHERE later AND NOT before) AS new_products,
           array_agg(product_id) FILTER (WHERE later AND before) AS repeated,
           array_agg(product_id) FILTER (WHERE before AND product_id = ANY (CAST(:popular AS text[]))) AS owned
    FROM bought
    GROUP BY customer_id
),
known AS (
    SELECT customer_id, count(*) AS orders
    FROM (
        SELECT DISTINCT event.customer_id, CAST(event.occurred_at AT TIME ZONE CAST(:zone AS text) AS date) AS day
        FROM page
        JOIN events AS event USING (customer_id)
        WHERE event.kind = 'purchase' AND event.product_id IS NOT NULL AND event.occurred_at < :begins
    ) AS day_of_purchases
    GROUP BY customer_id
)
SELECT page.customer_id, coalesce(known.orders, 0) AS orders, told.new_products, told.repeated, told.owned
FROM page
LEFT JOIN told USING (customer_id)
LEFT JOIN known USING (customer_id)
ORDER BY page.customer_id

-- The next customers, and what each purchased from :begins on and before :until: products that he had never purchased
-- (new_products) and that he had (repeated). `orders` are the days of his purchases before; `owned`
-- are those of the products in :popular that he had purchased before.
WITH page AS (
    SELECT customer_id
    FROM customers
    WHERE customer_id > :after
    ORDER BY customer_id
    LIMIT :page
)
SELECT page.customer_id, told.orders, told.new_products, told.repeated, told.owned
FROM page
CROSS JOIN LATERAL (
    SELECT array_agg(product_id) FILTER (WHERE later AND NOT before) AS new_products,
           array_agg(product_id) FILTER (WHERE later AND before) AS repeated,
           array_agg(product_id) FILTER (WHERE before AND product_id = ANY (CAST(:popular AS text[]))) AS owned,
           (
               SELECT count(DISTINCT CAST(event.occurred_at AT TIME ZONE CAST(:zone AS text) AS date))
               FROM events AS event
               WHERE event.customer_id = page.customer_id AND event.kind = 'purchase'
                 AND event.product_id IS NOT NULL AND event.occurred_at < :begins
           ) AS orders
    FROM (
        SELECT event.product_id,
               bool_or(event.occurred_at < :begins) AS before,
               bool_or(event.occurred_at >= :begins) AS later
        FROM events AS event
        WHERE event.customer_id = page.customer_id AND event.kind = 'purchase'
          AND event.product_id IS NOT NULL AND event.occurred_at < :until
        GROUP BY event.product_id
    ) AS bought
) AS told
ORDER BY page.customer_id

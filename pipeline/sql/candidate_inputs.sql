-- What choosing candidates needs of the customers of one page: the categories of their newest purchases and views,
-- most frequent first, and which of the popular products they have purchased.
SELECT customer.customer_id,
       touched.categories,
       owned.product_ids AS purchased
FROM unnest(CAST(:customer_ids AS text[])) AS customer (customer_id)
LEFT JOIN LATERAL (
    SELECT array_agg(category ORDER BY times DESC, category) AS categories
    FROM (
        SELECT category, count(*) AS times
        FROM (
            (SELECT coalesce(product.category, event.text) AS category
             FROM events AS event LEFT JOIN products AS product USING (product_id)
             WHERE event.customer_id = customer.customer_id AND event.kind = 'view' AND event.occurred_at <= :as_of
             ORDER BY event.occurred_at DESC, event.event_key
             LIMIT 100)
            UNION ALL
            (SELECT product.category
             FROM events AS event JOIN products AS product USING (product_id)
             WHERE event.customer_id = customer.customer_id AND event.kind = 'purchase' AND event.occurred_at <= :as_of
             ORDER BY event.occurred_at DESC, event.event_key
             LIMIT 100)
        ) AS newest
        WHERE category IS NOT NULL
        GROUP BY category
        ORDER BY times DESC, category
        LIMIT 10
    ) AS counted
) AS touched ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT event.product_id) AS product_ids
    FROM events AS event
    WHERE event.customer_id = customer.customer_id
      AND event.kind = 'purchase'
      AND event.occurred_at <= :as_of
      AND event.product_id = ANY (CAST(:popular AS text[]))
) AS owned ON true

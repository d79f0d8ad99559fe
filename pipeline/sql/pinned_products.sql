-- The products of customers' own fixed lists that may be recommended to them, in the order of each list.
-- `customer_ids` and `product_ids` are of equal length: one pair for each place on a list.
SELECT pinned.customer_id, product.product_id, product.name, product.brand, product.category,
       CAST(product.price AS double precision) AS price
FROM unnest(CAST(:customer_ids AS text[]), CAST(:product_ids AS text[]))
     WITH ORDINALITY AS pinned (customer_id, product_id, place)
JOIN products AS product USING (product_id)
WHERE product.available
  AND NOT product.hidden
  AND NOT EXISTS (
      SELECT FROM events AS purchase
      WHERE purchase.customer_id = pinned.customer_id
        AND purchase.kind = 'purchase'
        AND purchase.product_id = product.product_id
        AND purchase.occurred_at <= :as_of
  )
ORDER BY pinned.place

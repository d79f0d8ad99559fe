-- The products of the catalog that had been purchased before :begins: of the others nothing could be known then.
SELECT product.product_id
FROM products AS product
WHERE product.product_id IN (
    SELECT event.product_id
    FROM events AS event
    WHERE event.kind = 'purchase' AND event.occurred_at < :begins
)

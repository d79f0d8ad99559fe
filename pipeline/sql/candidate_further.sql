-- For each customer of `asked` the first `most` products, most popular first, that his own wishes and the shop's rules
-- let pass, less what he has bought or refused: for who has empty places after all else.
-- The catalog is put in order once; for each customer it is read only as far as he has places.
WITH catalog AS MATERIALIZED (
    SELECT product.product_id, product.brand, product.category,
           CAST(product.price AS double precision) AS price,
           known.number,
           row_number() OVER (
               ORDER BY known.recent_buyers DESC NULLS LAST, known.buyers DESC NULLS LAST, product.product_id
           ) AS place
    FROM products AS product
    LEFT JOIN candidate_products AS known ON known.build_id = :build_id AND known.product_id = product.product_id
    WHERE product.available
      AND NOT product.hidden
      AND product.product_id <> ALL (ARRAY(SELECT product_id FROM standing_rules WHERE rule = 'ban'))
    ORDER BY place
)
SELECT asked.customer_id, passing.product_id
FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS asked (
    customer_id text, price_from double precision, price_to double precision,
    brands text[], categories text[], numbers integer[], product_ids text[]
)
CROSS JOIN LATERAL (
    SELECT catalog.product_id, catalog.place
    FROM catalog
    WHERE (catalog.price < asked.price_from) IS NOT TRUE
      AND (catalog.price > asked.price_to) IS NOT TRUE
      AND (catalog.brand = ANY (asked.brands)) IS NOT TRUE
      AND (catalog.category = ANY (asked.categories)) IS NOT TRUE
      AND (catalog.number = ANY (asked.numbers)) IS NOT TRUE
      AND (catalog.product_id = ANY (asked.product_ids)) IS NOT TRUE
    LIMIT :most
) AS passing
ORDER BY asked.customer_id, passing.place

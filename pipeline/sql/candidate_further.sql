-- For each customer of `asked` the first `most` products, most popular first, that his own wishes and the shop's rules
-- let pass, less what he has bought or refused: for who has empty places after all else.
-- `within` is how many of the build's products are looked at, the most popular of them; null is the whole catalog, and
-- what is newer than the build last. They are put in order once; for each customer that is read only as far as he has
-- places. Names come as the keys of an object: in a long list of them each is found in a few steps.
WITH known AS MATERIALIZED (
    SELECT number, product_id, recent_buyers, buyers
    FROM candidate_products
    WHERE build_id = :build_id
    ORDER BY recent_buyers DESC, buyers DESC, product_id
    LIMIT CAST(:within AS bigint)
),
catalog AS MATERIALIZED (
    SELECT product.product_id, product.brand, product.category,
           CAST(product.price AS double precision) AS price,
           known.number,
           row_number() OVER (
               ORDER BY known.recent_buyers DESC NULLS LAST, known.buyers DESC NULLS LAST, product.product_id
           ) AS place
    FROM products AS product
    LEFT JOIN known USING (product_id)
    WHERE product.available
      AND NOT product.hidden
      AND product.product_id <> ALL (ARRAY(SELECT product_id FROM standing_rules WHERE rule = 'ban'))
      AND (CAST(:within AS bigint) IS NULL OR product.product_id = ANY (ARRAY(SELECT product_id FROM known)))
    ORDER BY place
)
SELECT asked.customer_id, passing.product_id
FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS asked (
    customer_id text, price_from double precision, price_to double precision,
    brands jsonb, categories jsonb, numbers integer[], product_ids jsonb
)
CROSS JOIN LATERAL (
    SELECT catalog.product_id, catalog.place
    FROM catalog
    WHERE (catalog.price < asked.price_from) IS NOT TRUE
      AND (catalog.price > asked.price_to) IS NOT TRUE
      AND (asked.brands ? catalog.brand) IS NOT TRUE
      AND (asked.categories ? catalog.category) IS NOT TRUE
      AND (catalog.number = ANY (asked.numbers)) IS NOT TRUE
      AND (asked.product_ids ? catalog.product_id) IS NOT TRUE
    LIMIT :most
) AS passing
ORDER BY asked.customer_id, passing.place

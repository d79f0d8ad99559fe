-- Products as the catalog has them now: those of these numbers in a build, those of these ids, and what the shop has
-- pinned; with what the shop rules of each. `number` is null where a product is newer than the build.
SELECT asked.number, product.product_id, product.name, product.brand, product.category,
       CAST(product.price AS double precision) AS price,
       product.available, product.hidden,
       coalesce(ruled.banned, false) AS banned,
       coalesce(ruled.pinned, false) AS pinned
FROM (
    SELECT number, product_id
    FROM candidate_products
    WHERE build_id = :build_id AND number = ANY (CAST(:numbers AS integer[]))
    UNION ALL
    SELECT known.number, named.product_id
    FROM (
        SELECT unnest(CAST(:product_ids AS text[])) AS product_id
        UNION
        SELECT product_id FROM standing_rules WHERE rule = 'pin'
    ) AS named
    LEFT JOIN candidate_products AS known ON known.build_id = :build_id AND known.product_id = named.product_id
) AS asked
JOIN products AS product USING (product_id)
LEFT JOIN (
    SELECT product_id, bool_or(rule = 'ban') AS banned, bool_or(rule = 'pin') AS pinned
    FROM standing_rules
    GROUP BY product_id
) AS ruled USING (product_id)
ORDER BY product.product_id

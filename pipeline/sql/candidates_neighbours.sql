-- For each product (of one part of them) those that its buyers purchased too, the heaviest first:
--   g = sum over the customers who purchased both of their share,
--   W = g / (buyers ^ source_exponent * buyers of the other ^ target_exponent)
--         * (recent buyers of the other + popularity_offset) ^ popularity_exponent.
-- Pairs are counted product by product, so that no more of them are in memory than one product has.
WITH weighed AS (
    SELECT CASE WHEN buyers = 0 THEN 0
                ELSE power(recent_buyers + CAST(:popularity_offset AS double precision),
                           CAST(:popularity_exponent AS double precision))
                     / power(buyers, CAST(:target_exponent AS double precision))
           END AS factor,
           number
    FROM candidate_products
    WHERE build_id = :build_id
),
factors AS MATERIALIZED (
    -- numbers count from 1 without a gap: the place is the number
    SELECT array_agg(factor ORDER BY number) AS by_number FROM weighed
)
INSERT INTO candidate_neighbours (build_id, number, neighbours, weights)
SELECT CAST(:build_id AS integer), bought.number, heaviest.numbers, heaviest.weights
FROM recstream_buyers AS bought
JOIN candidate_products AS product ON product.build_id = :build_id AND product.number = bought.number
CROSS JOIN LATERAL (
    SELECT array_agg(other ORDER BY weight DESC, other) AS numbers,
           array_agg(weight ORDER BY weight DESC, other) AS weights
    FROM (
        SELECT other,
               CAST(g * (SELECT by_number FROM factors)[other]
                    / power(product.buyers, CAST(:source_exponent AS double precision)) AS real) AS weight
        FROM (
            SELECT other, sum(share) AS g
            FROM (
                SELECT basket.share, unnest(basket.numbers) AS other
                FROM unnest(bought.baskets) AS of_buyer (basket)
                JOIN recstream_baskets AS basket USING (basket)
            ) AS pair
            GROUP BY other
            HAVING count(*) >= :least_shared
        ) AS shared
        WHERE other <> bought.number
        ORDER BY weight DESC, other
        LIMIT :neighbours
    ) AS heavy
) AS heaviest
WHERE bought.number % :parts = :part
  AND heaviest.numbers IS NOT NULL
ORDER BY bought.number

-- What products are like: the words of their names, their brand, their category. Of each word the products that sell
-- best, a few; and the newcomers, the ones whose row is newest, so many in all.
INSERT INTO recstream_words (word, number, is_newcomer, buyers)
WITH described AS (
    SELECT built.number,
           built.buyers,
           built.buyers < :newcomer_buyers AS is_newcomer,
           product.name,
           product.brand,
           product.category,
           row_number() OVER (PARTITION BY built.buyers < :newcomer_buyers
                              ORDER BY product.updated_at DESC, built.number) AS place
    FROM candidate_products AS built
    JOIN products AS product USING (product_id)
    WHERE built.build_id = :build_id
      AND product.available
      AND NOT product.hidden
),
spelt AS (
    SELECT word, number, is_newcomer, buyers
    FROM described
    CROSS JOIN LATERAL (
        SELECT lexeme FROM unnest(to_tsvector('simple', left(name, 500)))
        UNION SELECT 'brand ' || brand WHERE brand IS NOT NULL
        UNION SELECT 'category ' || category WHERE category IS NOT NULL
    ) AS said (word)
    WHERE NOT is_newcomer OR place <= :most_newcomers
)
SELECT word, number, is_newcomer, buyers
FROM (
    SELECT word, number, is_newcomer, buyers,
           row_number() OVER (PARTITION BY word, is_newcomer ORDER BY buyers DESC, number) AS place
    FROM spelt
) AS placed
WHERE is_newcomer OR place <= :sellers_of_word

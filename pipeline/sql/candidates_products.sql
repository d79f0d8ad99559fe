-- Who has purchased each product, and who lately: nobody too.
INSERT INTO candidate_products (build_id, number, product_id, buyers, recent_buyers)
SELECT CAST(:build_id AS integer),
       known.number,
       known.product_id,
       coalesce(counted.buyers, 0),
       coalesce(counted.recent_buyers, 0)
FROM recstream_numbers AS known
LEFT JOIN (
    SELECT purchased.number, count(*) AS buyers, count(*) FILTER (WHERE purchased.days_ago < :days) AS recent_buyers
    FROM candidate_histories
    CROSS JOIN LATERAL unnest(numbers, last_days) AS purchased (number, days_ago)
    WHERE build_id = :build_id
    GROUP BY purchased.number
) AS counted USING (number)
ORDER BY known.number

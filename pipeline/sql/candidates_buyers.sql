-- For each product the baskets that it is in.
INSERT INTO recstream_buyers (number, baskets)
SELECT number, array_agg(basket ORDER BY basket)
FROM recstream_baskets
CROSS JOIN LATERAL unnest(numbers) AS number
GROUP BY number
HAVING count(*) >= :least_shared

-- The newest products of each customer under a small number, and what each pair of them counts.
INSERT INTO recstream_baskets (basket, share, numbers)
SELECT row_number() OVER (),
       CAST(1 AS double precision) / power(cardinality(newest), CAST(:basket_exponent AS double precision)),
       newest
FROM (
    SELECT numbers[1 : CAST(:history AS integer)] AS newest
    FROM candidate_histories
    WHERE build_id = :build_id
    OFFSET 0 -- else each use cuts the array anew
) AS history
WHERE cardinality(newest) > 1

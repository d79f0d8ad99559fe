-- For each product that sells the newcomers that are most like it. A word that few of these products share says more.
WITH rarity AS (
    SELECT word, power(ln(1 + sum(count(*)) OVER () / count(*)), 2) AS worth
    FROM recstream_words
    GROUP BY word
    HAVING bool_or(is_newcomer)
),
newcomer AS (
    SELECT number, sqrt(sum(worth)) AS length
    FROM recstream_words JOIN rarity USING (word)
    WHERE is_newcomer
    GROUP BY number
),
alike AS (
    SELECT seller.number, fresh.number AS newcomer, CAST(sum(rarity.worth) AS double precision) AS shared
    FROM recstream_words AS fresh
    JOIN rarity USING (word)
    JOIN recstream_words AS seller ON seller.word = fresh.word AND NOT seller.is_newcomer
    WHERE fresh.is_newcomer
    GROUP BY seller.number, fresh.number
),
placed AS (
    SELECT alike.number,
           alike.newcomer,
           CAST(alike.shared / newcomer.length AS real) AS weight,
           row_number() OVER (PARTITION BY alike.number
                              ORDER BY alike.shared / newcomer.length DESC, alike.newcomer) AS place
    FROM alike
    JOIN newcomer ON newcomer.number = alike.newcomer
)
INSERT INTO candidate_newcomers (build_id, number, newcomers, weights)
SELECT CAST(:build_id AS integer),
       number,
       array_agg(newcomer ORDER BY place),
       array_agg(weight ORDER BY place)
FROM placed
WHERE place <= :newcomers
GROUP BY number

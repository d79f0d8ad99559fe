-- What candidates are found by, for the customers of one page: a row for each customer of what he has done, then a row
-- for each product that they purchased (`number`), unless it is known already, with those that its buyers purchased too,
-- the newcomers like it, and how many bought it lately.
-- Everything is read through an index and bounded: a customer with 100,000 purchases costs what one with 1,000 does.
WITH page AS MATERIALIZED (
    SELECT asked.customer_id,
           history.numbers[1:CAST(:most_owned AS integer)] AS numbers,
           history.times[1:CAST(:most_owned AS integer)] AS times,
           history.last_days[1:CAST(:most_owned AS integer)] AS last_days,
           since.numbers AS numbers_since,
           since.product_ids AS bought_since,
           since.days AS days_since,
           refusal.product_ids AS refused,
           customer.attributes AS attributes
    FROM unnest(CAST(:customer_ids AS text[])) AS asked (customer_id)
    LEFT JOIN customers AS customer USING (customer_id)
    LEFT JOIN candidate_histories AS history
        ON history.build_id = :build_id AND history.customer_id = asked.customer_id
    LEFT JOIN LATERAL (
        -- what he purchased after the build's as-of time
        SELECT array_agg(product.number ORDER BY place) AS numbers,
               array_agg(bought.product_id ORDER BY place) AS product_ids,
               array_agg(bought.days ORDER BY place) AS days
        FROM (
            SELECT event.product_id,
                   CAST(EXTRACT(epoch FROM CAST(:as_of AS timestamptz) - event.occurred_at) / 86400 AS real) AS days,
                   row_number() OVER (ORDER BY event.occurred_at DESC, event.event_key) AS place
            FROM events AS event
            WHERE event.customer_id = asked.customer_id
              AND event.kind = 'purchase'
              AND event.product_id IS NOT NULL
              AND event.occurred_at > :built_as_of
              AND event.occurred_at <= :as_of
            ORDER BY event.occurred_at DESC, event.event_key
            LIMIT :most_owned
        ) AS bought
        LEFT JOIN candidate_products AS product
            ON product.build_id = :build_id AND product.product_id = bought.product_id
    ) AS since ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(product_id) AS product_ids
        FROM (
            SELECT event.product_id
            FROM events AS event
            WHERE event.customer_id = asked.customer_id
              AND event.kind = 'response'
              AND event.value = 0
              AND event.product_id IS NOT NULL
              AND event.occurred_at > CAST(:as_of AS timestamptz) - make_interval(days => :refused_days)
              AND event.occurred_at <= :as_of
            ORDER BY event.occurred_at DESC
            LIMIT :most_refused
        ) AS newest
    ) AS refusal ON true
),
-- Whoever has purchased little is known by what he looked at and searched for.
interest AS (
    SELECT page.customer_id, viewed.categories, searched.words
    FROM page
    LEFT JOIN LATERAL (
        SELECT array_agg(category ORDER BY times DESC, category) AS categories
        FROM (
            SELECT category, count(*) AS times
            FROM (
                (SELECT coalesce(product.category, event.text) AS category
                 FROM events AS event LEFT JOIN products AS product USING (product_id)
                 WHERE event.customer_id = page.customer_id AND event.kind = 'view' AND event.occurred_at <= :as_of
                 ORDER BY event.occurred_at DESC, event.event_key
                 LIMIT 100)
                UNION ALL
                (SELECT product.category
                 FROM events AS event JOIN products AS product USING (product_id)
                 WHERE event.customer_id = page.customer_id AND event.kind = 'purchase' AND event.occurred_at <= :as_of
                 ORDER BY event.occurred_at DESC, event.event_key
                 LIMIT 100)
            ) AS newest
            WHERE category IS NOT NULL
            GROUP BY category
            ORDER BY times DESC, category
            LIMIT 10
        ) AS counted
    ) AS viewed ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(words ORDER BY place) AS words
        FROM (
            SELECT left(event.text, 200) AS words,
                   row_number() OVER (ORDER BY event.occurred_at DESC, event.event_key) AS place
            FROM events AS event
            WHERE event.customer_id = page.customer_id
              AND event.kind = 'search'
              AND event.text IS NOT NULL
              AND event.occurred_at <= :as_of
            ORDER BY event.occurred_at DESC, event.event_key
            LIMIT 20
        ) AS newest
    ) AS searched ON true
    WHERE coalesce(cardinality(page.numbers), 0) + coalesce(cardinality(page.numbers_since), 0) < :few
),
-- Attributes of any size cost no more than small ones once they have left Postgres. A text is read as a shop's file
-- would be: as a list parted by bars, semicolons or commas, and as a name that has these in it; a number can be one.
stated AS (
    SELECT page.customer_id, brands.names AS excluded_brands, categories.names AS excluded_categories,
           CASE
               WHEN jsonb_typeof(attributes -> 'price_from') = 'number'
                 OR attributes ->> 'price_from' ~ '^\s*[0-9]{1,15}([.][0-9]{1,15})?\s*$'
               THEN CAST(attributes ->> 'price_from' AS numeric)
           END AS price_from,
           CASE
               WHEN jsonb_typeof(attributes -> 'price_to') = 'number'
                 OR attributes ->> 'price_to' ~ '^\s*[0-9]{1,15}([.][0-9]{1,15})?\s*$'
               THEN CAST(attributes ->> 'price_to' AS numeric)
           END AS price_to
    FROM page
    CROSS JOIN LATERAL (
        SELECT array_agg(left(name, 1000)) AS names
        FROM (
            SELECT name
            FROM jsonb_array_elements_text(
                CASE jsonb_typeof(attributes -> 'excluded_brands')
                    WHEN 'array' THEN attributes -> 'excluded_brands'
                    WHEN 'string' THEN jsonb_build_array(attributes -> 'excluded_brands') || to_jsonb(
                        regexp_split_to_array(attributes ->> 'excluded_brands', '\s*[|;,]\s*'))
                    ELSE '[]'
                END
            ) AS listed (name)
            LIMIT 1000
        ) AS first_ones
    ) AS brands
    CROSS JOIN LATERAL (
        SELECT array_agg(left(name, 1000)) AS names
        FROM (
            SELECT name
            FROM jsonb_array_elements_text(
                CASE jsonb_typeof(attributes -> 'excluded_categories')
                    WHEN 'array' THEN attributes -> 'excluded_categories'
                    WHEN 'string' THEN jsonb_build_array(attributes -> 'excluded_categories') || to_jsonb(
                        regexp_split_to_array(attributes ->> 'excluded_categories', '\s*[|;,]\s*'))
                    ELSE '[]'
                END
            ) AS listed (name)
            LIMIT 1000
        ) AS first_ones
    ) AS categories
    WHERE attributes ?| ARRAY['excluded_brands', 'excluded_categories', 'price_from', 'price_to']
),
purchased AS (
    SELECT number
    FROM (
        SELECT unnest(numbers[1:CAST(:most_scored AS integer)]) AS number FROM page
        UNION
        SELECT unnest(numbers_since) FROM page
    ) AS of_them
    WHERE number <> ALL (CAST(:known AS integer[]))
)
SELECT page.customer_id, page.numbers, page.times, page.last_days,
       page.numbers_since, page.bought_since, page.days_since, page.refused,
       interest.categories, interest.words,
       stated.excluded_brands, stated.excluded_categories,
       stated.price_from, stated.price_to,
       NULL AS number, NULL AS neighbours, NULL AS weights, NULL AS newcomers, NULL AS newcomer_weights,
       NULL AS recent_buyers
FROM page
LEFT JOIN interest USING (customer_id)
LEFT JOIN stated USING (customer_id)
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       purchased.number, linked.neighbours, linked.weights, fresh.newcomers, fresh.weights,
       product.recent_buyers
FROM purchased
JOIN candidate_products AS product ON product.build_id = :build_id AND product.number = purchased.number
LEFT JOIN candidate_neighbours AS linked ON linked.build_id = :build_id AND linked.number = purchased.number
LEFT JOIN candidate_newcomers AS fresh ON fresh.build_id = :build_id AND fresh.number = purchased.number
    AND CAST(:newcomers AS boolean)

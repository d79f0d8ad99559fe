-- What events and attributes tell of the customers of one page, up to the as-of time: a row for each customer.
-- Every lateral reads a bounded number of the newest events through the index (customer_id, kind, occurred_at),
-- so that a customer with 50,000 events costs what one with 50 does; only the yearly spend reads a year's purchases.
SELECT customer.customer_id,
       left(customer.time_zone, 100) AS time_zone,
       stated.attributes,
       pinned.product_ids AS pinned_candidates,
       purchases.newest AS purchases,
       views.most_viewed AS categories,
       ratings.newest AS ratings,
       searches.newest AS searches,
       responses.newest AS responses,
       spend.total AS spent,
       spend.since AS spending_since
FROM customers AS customer
LEFT JOIN LATERAL (
    -- Only what a segment can show: attributes of any size cost no more than small ones once they have left Postgres.
    SELECT jsonb_object_agg(key, CASE jsonb_typeof(value)
               WHEN 'string' THEN to_jsonb(left(value #>> '{}', 200))
               WHEN 'number' THEN value
               WHEN 'array' THEN (
                   SELECT jsonb_agg(left(element #>> '{}', 200) ORDER BY place)
                   FROM jsonb_array_elements(value) WITH ORDINALITY AS listed (element, place)
                   WHERE jsonb_typeof(element) = 'string' AND place <= 20
               )
           END) AS attributes
    FROM jsonb_each(customer.attributes)
    WHERE key IN ('preferred_brands', 'loyalty_status', 'average_monthly_spend', 'preferred_shopping_times')
) AS stated ON true
LEFT JOIN LATERAL (
    SELECT array_agg(product_id ORDER BY place) AS product_ids
    FROM jsonb_array_elements_text(
        CASE jsonb_typeof(customer.attributes -> 'candidates')
            WHEN 'array' THEN customer.attributes -> 'candidates' ELSE '[]'
        END
    ) WITH ORDINALITY AS listed (product_id, place)
    WHERE place <= :most_pinned AND length(product_id) <= 1000
) AS pinned ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(label, brand, occurred_at) ORDER BY occurred_at DESC, label) AS newest
    FROM (
        SELECT left(coalesce(product.name, event.text), 200) AS label,
               left(product.brand, 100) AS brand,
               event.occurred_at
        FROM events AS event
        LEFT JOIN products AS product USING (product_id)
        WHERE event.customer_id = customer.customer_id
          AND event.kind = 'purchase'
          AND event.occurred_at <= :as_of
        ORDER BY event.occurred_at DESC, event.event_key
        LIMIT 50
    ) AS purchase
    WHERE label IS NOT NULL
) AS purchases ON true
LEFT JOIN LATERAL (
    SELECT json_agg(category ORDER BY times DESC, latest DESC, category) AS most_viewed
    FROM (
        SELECT category, count(*) AS times, max(occurred_at) AS latest
        FROM (
            SELECT left(coalesce(product.category, event.text), 200) AS category, event.occurred_at
            FROM events AS event
            LEFT JOIN products AS product USING (product_id)
            WHERE event.customer_id = customer.customer_id
              AND event.kind = 'view'
              AND event.occurred_at <= :as_of
            ORDER BY event.occurred_at DESC, event.event_key
            LIMIT 200
        ) AS view
        WHERE category IS NOT NULL
        GROUP BY category
        ORDER BY times DESC, latest DESC, category
        LIMIT 10
    ) AS viewed
) AS views ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(label, value) ORDER BY occurred_at DESC, label, value) AS newest
    FROM (
        SELECT left(coalesce(product.name, event.text), 200) AS label, event.value, event.occurred_at
        FROM events AS event
        LEFT JOIN products AS product USING (product_id)
        WHERE event.customer_id = customer.customer_id
          AND event.kind = 'rating'
          AND event.value IS NOT NULL
          AND event.occurred_at <= :as_of
        ORDER BY event.occurred_at DESC, event.event_key
        LIMIT 30
    ) AS rating
    WHERE label IS NOT NULL
) AS ratings ON true
LEFT JOIN LATERAL (
    SELECT json_agg(words ORDER BY occurred_at DESC, words) AS newest
    FROM (
        SELECT left(event.text, 200) AS words, event.occurred_at
        FROM events AS event
        WHERE event.customer_id = customer.customer_id
          AND event.kind = 'search'
          AND event.text IS NOT NULL
          AND event.occurred_at <= :as_of
        ORDER BY event.occurred_at DESC, event.event_key
        LIMIT 30
    ) AS search
) AS searches ON true
LEFT JOIN LATERAL (
    -- What he was merely shown has no value and is much more: the index events_answers is without it.
    SELECT json_agg(json_build_array(label, value, response) ORDER BY occurred_at DESC, label, value, response) AS newest
    FROM (
        SELECT left(coalesce(product.name, event.text), 200) AS label, event.value, event.response, event.occurred_at
        FROM events AS event
        LEFT JOIN products AS product USING (product_id)
        WHERE event.customer_id = customer.customer_id
          AND event.kind = 'response'
          AND event.value IS NOT NULL
          AND event.occurred_at <= :as_of
        ORDER BY event.occurred_at DESC, event.event_key
        LIMIT 30
    ) AS response
    WHERE label IS NOT NULL
) AS responses ON true
LEFT JOIN LATERAL (
    SELECT sum(CASE event.kind WHEN 'purchase' THEN event.value ELSE -event.value END) AS total,
           min(event.occurred_at) FILTER (WHERE event.kind = 'purchase') AS since
    FROM events AS event
    WHERE event.customer_id = customer.customer_id
      AND event.kind IN ('purchase', 'return')
      AND event.value IS NOT NULL
      AND event.occurred_at > CAST(:as_of AS timestamptz) - interval '1 year'
      AND event.occurred_at <= :as_of
) AS spend ON true
WHERE customer.customer_id = ANY (:customer_ids)

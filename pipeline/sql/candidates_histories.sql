-- What each customer purchased up to the as-of time: each product once, the newest purchase first. The same purchase told
-- twice counts once, for days count (by UTC, whatever the session's time zone is). Who gave back as much as he had
-- purchased does not have it: in money where that is known of all of it, else in number.
WITH kept AS (
    SELECT customer_id,
           number,
           count(DISTINCT day) FILTER (WHERE is_purchase) AS days,
           min(occurred_at) FILTER (WHERE is_purchase) AS first_at,
           max(occurred_at) FILTER (WHERE is_purchase) AS last_at
    FROM (
        SELECT event.customer_id COLLATE "C" AS customer_id,
               known.number,
               CAST(event.occurred_at AT TIME ZONE 'UTC' AS date) AS day,
               event.occurred_at,
               event.value,
               event.kind = 'purchase' AS is_purchase
        FROM events AS event
        JOIN recstream_numbers AS known USING (product_id)
        WHERE event.kind IN ('purchase', 'return')
          AND event.occurred_at <= CAST(:as_of AS timestamptz)
    ) AS event
    GROUP BY customer_id, number
    HAVING bool_or(is_purchase)
       AND coalesce(CASE WHEN bool_and(value IS NOT NULL)
                         THEN sum(value) FILTER (WHERE NOT is_purchase) < sum(value) FILTER (WHERE is_purchase)
                    END,
                    count(*) FILTER (WHERE NOT is_purchase) < count(*) FILTER (WHERE is_purchase))
)
INSERT INTO candidate_histories (build_id, customer_id, numbers, times, first_days, last_days)
SELECT CAST(:build_id AS integer),
       customer_id,
       array_agg(number ORDER BY last_at DESC, number),
       array_agg(CAST(least(days, 32767) AS smallint) ORDER BY last_at DESC, number),
       array_agg(CAST(extract(epoch FROM CAST(:as_of AS timestamptz) - first_at) / 86400 AS real)
                 ORDER BY last_at DESC, number),
       array_agg(CAST(extract(epoch FROM CAST(:as_of AS timestamptz) - last_at) / 86400 AS real)
                 ORDER BY last_at DESC, number)
FROM kept
GROUP BY customer_id

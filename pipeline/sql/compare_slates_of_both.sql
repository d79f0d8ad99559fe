-- Both slates of every customer who has a complete one on either side, as the products of their first places in order,
-- and what the customer bought in the window. A customer who kept a slate because nothing had changed has the rows of
-- the run that made it. `source_runs` and `source_days`, of equal length, are where all these rows lie: they keep the
-- partitions of other days out of the plan. A variant that is null is the whole run.
WITH source AS (
    SELECT * FROM unnest(CAST(:source_runs AS uuid[]), CAST(:source_days AS date[])) AS source (run_id, day)
),
first_slate AS (
    SELECT customer_id, coalesce(kept_run_id, run_id) AS run_id
    FROM slates
    WHERE run_id = :first_run AND day = :first_day AND state IN ('complete', 'unchanged')
      AND (CAST(:first_variant AS text) IS NULL OR variant = CAST(:first_variant AS text))
),
second_slate AS (
    SELECT customer_id, coalesce(kept_run_id, run_id) AS run_id
    FROM slates
    WHERE run_id = :second_run AND day = :second_day AND state IN ('complete', 'unchanged')
      AND (CAST(:second_variant AS text) IS NULL OR variant = CAST(:second_variant AS text))
),
first_list AS (
    SELECT customer_id, run_id, array_agg(placed.product_id ORDER BY placed.rank) AS products
    FROM first_slate
    JOIN source USING (run_id)
    JOIN recommendations AS placed USING (run_id, customer_id, day)
    WHERE placed.run_id = ANY (CAST(:source_runs AS uuid[])) AND placed.day = ANY (CAST(:source_days AS date[]))
      AND placed.rank <= :depth
    GROUP BY customer_id, run_id
),
second_list AS (
    SELECT customer_id, run_id, array_agg(placed.product_id ORDER BY placed.rank) AS products
    FROM second_slate
    JOIN source USING (run_id)
    JOIN recommendations AS placed USING (run_id, customer_id, day)
    WHERE placed.run_id = ANY (CAST(:source_runs AS uuid[])) AND placed.day = ANY (CAST(:source_days AS date[]))
      AND placed.rank <= :depth
    GROUP BY customer_id, run_id
),
bought AS (
    SELECT customer_id, array_agg(DISTINCT product_id) AS products
    FROM events
    WHERE kind = 'purchase' AND product_id IS NOT NULL AND occurred_at > :since AND occurred_at <= :until
    GROUP BY customer_id
)
SELECT first_list.products AS first, second_list.products AS second, bought.products AS bought,
       coalesce(first_list.run_id = second_list.run_id, false) AS same_slate
FROM first_list
FULL JOIN second_list USING (customer_id)
LEFT JOIN bought USING (customer_id)

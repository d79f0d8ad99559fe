-- What the customers with a slate in one of these nights purchased while they saw one, and how much of it stood in the
-- first places of their slates, and in those of what was popular as of the same moment: a row for all customers who are
-- alike in this. A purchase counts for the slate that its customer saw at that moment, each product once.
--
-- Nights are given as arrays of equal length; so are the sources, the runs in which the rows of the slates lie. The
-- arrays keep the partitions of other days out of the plan.
WITH night AS MATERIALIZED (
    SELECT *
    FROM unnest(
        CAST(:run_ids AS uuid[]), CAST(:days AS date[]), CAST(:as_ofs AS timestamptz[]),
        CAST(:seen_from AS timestamptz[]), CAST(:seen_until AS timestamptz[]), CAST(:precedences AS timestamptz[])
    ) AS night (run_id, day, as_of, seen_from, seen_until, precedence)
),
source AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:source_runs AS uuid[]), CAST(:source_days AS date[])) AS source (run_id, day)
),
popular AS MATERIALIZED (
    SELECT night.run_id, best.product_id, best.place
    FROM night
    CROSS JOIN LATERAL (
        SELECT product_id, row_number() OVER (ORDER BY count(DISTINCT customer_id) DESC, product_id) AS place
        FROM events
        WHERE kind = 'purchase'
          AND product_id IS NOT NULL
          AND occurred_at > night.as_of - make_interval(days => :popularity_days)
          AND occurred_at <= night.as_of
        GROUP BY product_id
        ORDER BY place
        LIMIT 10
    ) AS best
),
having_a_slate AS (
    SELECT DISTINCT ON (slate.customer_id) slate.customer_id, slate.variant
    FROM slates AS slate
    JOIN night USING (run_id, day)
    WHERE slate.run_id = ANY (CAST(:run_ids AS uuid[])) AND slate.day = ANY (CAST(:days AS date[]))
      AND slate.state IN ('complete', 'unchanged')
    ORDER BY slate.customer_id, night.precedence DESC, night.run_id DESC
),
purchase AS (
    SELECT DISTINCT purchase.customer_id, purchase.product_id, seen.run_id, seen.source_run_id
    FROM events AS purchase
    CROSS JOIN LATERAL (
        SELECT night.run_id, night.precedence, coalesce(slate.kept_run_id, slate.run_id) AS source_run_id
        FROM night
        JOIN slates AS slate USING (run_id, day)
        WHERE slate.customer_id = purchase.customer_id
          AND slate.run_id = ANY (CAST(:run_ids AS uuid[])) AND slate.day = ANY (CAST(:days AS date[]))
          AND slate.state IN ('complete', 'unchanged')
          AND purchase.occurred_at > night.seen_from
          AND purchase.occurred_at <= night.seen_until
        ORDER BY night.precedence DESC, night.run_id DESC
        LIMIT 1
    ) AS seen
    WHERE purchase.kind = 'purchase'
      AND purchase.product_id IS NOT NULL
      AND purchase.occurred_at > :since
      AND purchase.occurred_at <= :until
      -- who saw a slate made for him alone did not see the night's
      AND (:is_named OR NOT EXISTS (
          SELECT
          FROM published AS one
          JOIN runs AS run USING (run_id)
          WHERE one.customer_id = purchase.customer_id
            AND one.published_at < purchase.occurred_at
            AND run.kind = 'on_demand'
            AND run.created_at > seen.precedence
      ))
),
placed AS (
    SELECT purchase.customer_id, purchase.product_id, min(recommendation.rank) AS rank, min(popular.place) AS place
    FROM purchase
    LEFT JOIN source ON source.run_id = purchase.source_run_id
    LEFT JOIN recommendations AS recommendation
        ON recommendation.run_id = source.run_id
        AND recommendation.day = source.day
        AND recommendation.customer_id = purchase.customer_id
        AND recommendation.product_id = purchase.product_id
        AND recommendation.run_id = ANY (CAST(:source_runs AS uuid[]))
        AND recommendation.day = ANY (CAST(:source_days AS date[]))
    LEFT JOIN popular ON popular.run_id = purchase.run_id AND popular.product_id = purchase.product_id
    GROUP BY purchase.customer_id, purchase.product_id
),
buyer AS (
    SELECT customer_id,
           count(*) AS bought,
           count(*) FILTER (WHERE rank <= 5) AS ours_5,
           count(*) FILTER (WHERE place <= 5) AS popular_5,
           count(*) FILTER (WHERE rank <= 10) AS ours_10,
           count(*) FILTER (WHERE place <= 10) AS popular_10
    FROM placed
    GROUP BY customer_id
)
SELECT customer.variant,
       coalesce(buyer.bought, 0) AS bought,
       coalesce(buyer.ours_5, 0) AS ours_5,
       coalesce(buyer.popular_5, 0) AS popular_5,
       coalesce(buyer.ours_10, 0) AS ours_10,
       coalesce(buyer.popular_10, 0) AS popular_10,
       count(*) AS customers
FROM having_a_slate AS customer
LEFT JOIN buyer USING (customer_id)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY 1, 2, 3, 4, 5, 6

-- What became of the recommendations of these runs by rank: each of a customer's products counts once, however often he
-- was shown or clicked it. Whoever responds to a product has been shown it. A response to a run that is not among these,
-- or to a product that stood on no slate of it, or from before the run was there, counts nowhere.
SELECT coalesce(answer.rank, recommendation.rank) AS rank,
       count(*) AS shown,
       count(*) FILTER (WHERE answer.clicked) AS clicked,
       count(*) FILTER (WHERE answer.bought) AS bought,
       count(*) FILTER (WHERE answer.refused) AS refused
FROM (
    SELECT event.customer_id, event.product_id, event.run_id, min(event.rank) AS rank,
           bool_or(event.response = 'clicked') AS clicked,
           bool_or(event.response = 'bought') AS bought,
           bool_or(event.response = 'refused') AS refused
    FROM events AS event
    JOIN runs AS run USING (run_id)
    WHERE event.kind = 'response'
      AND event.response IS NOT NULL
      AND event.product_id IS NOT NULL
      AND event.run_id = ANY (CAST(:source_runs AS uuid[]))
      AND event.occurred_at > :since
      AND event.occurred_at <= :until
      AND event.occurred_at >= run.created_at
    GROUP BY event.customer_id, event.product_id, event.run_id
) AS answer
JOIN unnest(CAST(:source_runs AS uuid[]), CAST(:source_days AS date[])) AS source (run_id, day)
    ON source.run_id = answer.run_id
JOIN recommendations AS recommendation
    ON recommendation.run_id = source.run_id
    AND recommendation.day = source.day
    AND recommendation.customer_id = answer.customer_id
    AND recommendation.product_id = answer.product_id
    AND recommendation.run_id = ANY (CAST(:source_runs AS uuid[]))
    AND recommendation.day = ANY (CAST(:source_days AS date[]))
GROUP BY 1
ORDER BY 1

-- Of the customers of one page, those of whom nothing has changed: the slate that readers see was made from the same
-- content, by the model that would make it now, and its oldest row is not too old.
-- What a customer sees is ruled by the view current_recommendations: the complete slate of the publication of greatest
-- precedence that has one for him.
-- `customer_ids`, `content_hashes` and `models` are of equal length: one place for each customer.
SELECT asked.customer_id, current.run_id AS kept_run_id, placed.rows AS kept_rows
FROM unnest(CAST(:customer_ids AS text[]), CAST(:content_hashes AS text[]), CAST(:models AS text[]))
     AS asked (customer_id, content_hash, model)
CROSS JOIN LATERAL (
    SELECT publication.run_id, slate.day, slate.content_hash
    FROM (
        SELECT run_id, day, precedence FROM published_runs WHERE withdrawn_at IS NULL
        UNION ALL
        SELECT one.run_id, one.day, run.created_at
        FROM published AS one JOIN runs AS run USING (run_id)
        WHERE one.customer_id = asked.customer_id
        ORDER BY precedence DESC, run_id DESC
    ) AS publication
    CROSS JOIN LATERAL (
        SELECT slate.day, slate.content_hash
        FROM slates AS slate
        WHERE slate.run_id = publication.run_id
          AND slate.customer_id = asked.customer_id
          AND slate.day IN (publication.day, date '0001-01-01')
          AND slate.state = 'complete'
        ORDER BY slate.day DESC
        LIMIT 1
    ) AS slate
    ORDER BY publication.precedence DESC, publication.run_id DESC
    LIMIT 1
) AS current
JOIN runs AS run ON run.run_id = current.run_id
CROSS JOIN LATERAL (
    SELECT count(*) AS rows,
           min(recommendation.committed_at) AS oldest,
           bool_and(recommendation.provenance <> 'retrieval_order'
                    AND coalesce(recommendation.model, run.model) = asked.model) AS by_the_same_model
    FROM recommendations AS recommendation
    WHERE recommendation.run_id = current.run_id
      AND recommendation.customer_id = asked.customer_id
      AND recommendation.day = current.day
) AS placed
WHERE current.content_hash = asked.content_hash
  AND placed.by_the_same_model
  AND placed.oldest > now() - make_interval(days => CAST(:most_days AS integer))

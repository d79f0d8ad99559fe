-- A page of one day's slates after a given one: those that readers see (`seen` true), or those that they do not.
-- Those count as seen, too, to which an unchanged slate of a later day leads, while their publication stands: readers
-- see them again as soon as what came after that day is rolled back.
-- What a customer sees is ruled by the view current_recommendations: the complete slate of the publication of greatest
-- precedence (of two alike, of the greater run_id) that has one for him, in the day of that publication or kept. Whether he is among the customers at this
-- moment does not count here: who comes back finds his slate.
SELECT slate.run_id, slate.customer_id
FROM slates AS slate
CROSS JOIN LATERAL (
    SELECT slate.state = 'complete' AND EXISTS (
        SELECT
        FROM (
            SELECT run_id, precedence FROM published_runs WHERE withdrawn_at IS NULL
            UNION ALL
            SELECT one.run_id, run.created_at
            FROM published AS one JOIN runs AS run USING (run_id)
            WHERE one.customer_id = slate.customer_id
        ) AS its
        WHERE its.run_id = slate.run_id
          AND (NOT EXISTS (
              SELECT
              FROM (
                  SELECT run_id, day, precedence FROM published_runs WHERE withdrawn_at IS NULL
                  UNION ALL
                  SELECT one.run_id, one.day, run.created_at
                  FROM published AS one JOIN runs AS run USING (run_id)
                  WHERE one.customer_id = slate.customer_id
              ) AS other
              JOIN slates AS newer ON newer.run_id = other.run_id
                  AND newer.customer_id = slate.customer_id
                  AND newer.day IN (other.day, date '0001-01-01')
                  AND newer.state = 'complete'
              WHERE (other.precedence, other.run_id) > (its.precedence, its.run_id)
          ) OR EXISTS (
              SELECT
              FROM slates AS unchanged
              WHERE unchanged.customer_id = slate.customer_id
                AND unchanged.day > CAST(:day AS date)
                AND unchanged.kept_run_id = slate.run_id
                AND unchanged.state = 'unchanged'
          ))
    ) AS seen
) AS sight
JOIN runs AS run ON run.run_id = slate.run_id
WHERE slate.day = CAST(:day AS date)
  AND sight.seen = :seen
  AND (slate.run_id, slate.customer_id) > (CAST(:after_run AS uuid), CAST(:after_customer AS text))
  -- a slate that was never copied, of a run before there were days, is no leftover while its run is not pruned
  AND (:seen OR run.pruned_at IS NOT NULL)
ORDER BY slate.run_id, slate.customer_id
LIMIT :page

-- Forgets what is published of pruned runs where no slate is left: readers look for one in every publication.
WITH pointers AS (
    DELETE FROM published AS one
    WHERE NOT EXISTS (
        SELECT FROM slates AS slate
        WHERE slate.run_id = one.run_id
          AND slate.customer_id = one.customer_id
          AND slate.day IN (one.day, date '0001-01-01')
    )
    RETURNING 1
),
nights AS (
    DELETE FROM published_runs AS night
    USING runs AS run
    WHERE run.run_id = night.run_id
      AND run.pruned_at IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM slates AS slate
          WHERE slate.run_id = night.run_id
            AND slate.day IN (night.day, date '0001-01-01')
      )
    RETURNING 1
)
SELECT (SELECT count(*) FROM pointers) AS pointers, (SELECT count(*) FROM nights) AS nights

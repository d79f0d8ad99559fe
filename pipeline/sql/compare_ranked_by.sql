-- The rows that a run, or one variant of it, has made, by who ranked them: a model, or where none did, the provenance.
-- A row names its model only where that is not the run's; `:model` is.
SELECT CASE WHEN placed.provenance = 'language_model' THEN coalesce(placed.model, :model) ELSE placed.provenance END
           AS ranked_by,
       count(*) AS rows
FROM recommendations AS placed
WHERE placed.run_id = :run_id AND placed.day = :day
  AND (CAST(:variant AS text) IS NULL OR EXISTS (
          SELECT
          FROM slates AS mine
          WHERE mine.run_id = :run_id AND mine.day = :day AND mine.customer_id = placed.customer_id
            AND mine.variant = CAST(:variant AS text)
      ))
GROUP BY ranked_by
ORDER BY rows DESC, ranked_by

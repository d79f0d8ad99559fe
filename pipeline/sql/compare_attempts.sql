-- The attempts of a run, or of one variant of it, by how they ended; the most frequent first.
SELECT call.ending, count(*) AS attempts
FROM llm_calls AS call
WHERE call.run_id = :run_id AND call.day = :day
  AND (CAST(:variant AS text) IS NULL OR EXISTS (
          SELECT
          FROM slates AS mine
          WHERE mine.run_id = :run_id AND mine.day = :day AND mine.customer_id = call.customer_id
            AND mine.variant = CAST(:variant AS text)
      ))
GROUP BY call.ending
ORDER BY attempts DESC, call.ending

-- The complete slates that a run, or one variant of it, has for these customers: the products of the first places in
-- order, and the candidates that the model had, in the order in which they were found. A customer who kept a slate
-- because nothing had changed has the rows and the candidates of the run that made it. `source_runs` and
-- `source_days`, of equal length, are where all these rows lie.
WITH source AS (
    SELECT * FROM unnest(CAST(:source_runs AS uuid[]), CAST(:source_days AS date[])) AS source (run_id, day)
),
slate AS (
    SELECT customer_id, coalesce(kept_run_id, run_id) AS run_id
    FROM slates
    WHERE run_id = :run_id AND day = :day AND state IN ('complete', 'unchanged')
      AND (CAST(:variant AS text) IS NULL OR variant = CAST(:variant AS text))
      AND customer_id = ANY (CAST(:customer_ids AS text[]))
)
SELECT slate.customer_id,
       (
           SELECT array_agg(placed.product_id ORDER BY placed.rank)
           FROM recommendations AS placed
           WHERE placed.run_id = slate.run_id AND placed.day = source.day AND placed.customer_id = slate.customer_id
       ) AS products,
       (
           SELECT made.candidate_ids
           FROM slates AS made
           WHERE made.run_id = slate.run_id AND made.day = source.day AND made.customer_id = slate.customer_id
       ) AS candidates
FROM slate
JOIN source USING (run_id)

-- The slates of a run, or of one variant of it, in one row: by state, what they cost, and how long they took.
-- Costs and tokens are means over the slates for which a model was asked; a kept one cost nothing and is none of them.
SELECT count(*) AS customers,
       count(*) FILTER (WHERE state = 'complete') AS complete,
       count(*) FILTER (WHERE state = 'unchanged') AS unchanged,
       count(*) FILTER (WHERE state = 'short') AS short,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state IN ('pending', 'streaming')) AS unfinished,
       count(*) FILTER (WHERE attempts > 0) AS asked,
       count(cost) FILTER (WHERE attempts > 0) AS priced,
       sum(cost) AS cost,
       round(avg(cost) FILTER (WHERE attempts > 0), 6) AS cost_per_slate,
       (avg(tokens_in) FILTER (WHERE attempts > 0))::double precision AS tokens_in_per_slate,
       (avg(tokens_out) FILTER (WHERE attempts > 0))::double precision AS tokens_out_per_slate,
       (avg(tokens_cached) FILTER (WHERE attempts > 0))::double precision AS tokens_cached_per_slate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY first_row_s) AS first_row_p50_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY first_row_s) AS first_row_p95_s,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY whole_s) AS whole_p50_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY whole_s) AS whole_p95_s,
       (
           SELECT count(*)
           FROM rejections AS refused
           WHERE refused.run_id = :run_id AND refused.day = :day
             AND (CAST(:variant AS text) IS NULL OR EXISTS (
                     SELECT
                     FROM slates AS mine
                     WHERE mine.run_id = :run_id AND mine.day = :day AND mine.customer_id = refused.customer_id
                       AND mine.variant = CAST(:variant AS text)
                 ))
       ) AS refused_objects
FROM slates
WHERE run_id = :run_id AND day = :day
  AND (CAST(:variant AS text) IS NULL OR variant = CAST(:variant AS text))

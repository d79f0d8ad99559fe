-- One pending slate for every active customer of the run, cut into shards of about equal work, and the shards themselves.
-- `only` is a list of customers, or null for all; `most` bounds the number, or is null; a shard is `shard_size` customers
-- of average work. What a customer is expected to take is what he took in the night that readers see, and the average
-- where he took nothing; nobody counts as less than a quarter of it, so that no shard has more than four times as many.
WITH planned AS MATERIALIZED (
    SELECT customer_id
    FROM customers
    WHERE active
      AND (CAST(:only AS text[]) IS NULL OR customer_id = ANY (CAST(:only AS text[])))
    ORDER BY customer_id
    LIMIT CAST(:most AS bigint)
),
shown AS (
    SELECT run_id, day
    FROM published_runs
    WHERE withdrawn_at IS NULL
    ORDER BY precedence DESC, run_id DESC
    LIMIT 1
),
expected AS MATERIALIZED (
    SELECT planned.customer_id, CAST(nullif(slate.tokens_in + slate.tokens_out, 0) AS double precision) AS tokens
    FROM planned
    LEFT JOIN (shown JOIN slates AS slate USING (run_id)) -- in its day's partition, or where it is kept
        ON slate.customer_id = planned.customer_id AND slate.day IN (shown.day, date '0001-01-01')
),
average AS (
    SELECT avg(tokens) AS tokens FROM expected
),
weighed AS (
    SELECT customer_id,
           coalesce(expected.tokens, average.tokens) AS tokens,
           greatest(coalesce(expected.tokens / average.tokens, 1), 0.25) AS work
    FROM expected CROSS JOIN average
),
cut AS MATERIALIZED (
    SELECT customer_id,
           tokens,
           floor((sum(work) OVER (ORDER BY customer_id ROWS UNBOUNDED PRECEDING) - work) / :shard_size) AS part
    FROM weighed
),
-- One who takes more than a whole shard may leave a number out.
numbers AS (
    SELECT part, CAST(row_number() OVER (ORDER BY part) - 1 AS integer) AS shard FROM cut GROUP BY part
),
numbered AS MATERIALIZED (
    SELECT customer_id, tokens, shard FROM cut JOIN numbers USING (part)
),
slots AS (
    INSERT INTO slates (run_id, customer_id, day, shard)
    SELECT :run_id, customer_id, CAST(:day AS date), shard FROM numbered
    ON CONFLICT DO NOTHING
),
shards AS (
    INSERT INTO run_shards (run_id, shard, customers, tokens)
    SELECT :run_id, shard, count(*), CAST(round(sum(tokens)) AS bigint) FROM numbered GROUP BY shard
    RETURNING customers
)
SELECT coalesce(sum(customers), 0) FROM shards

-- One pending slate for every active customer of the run, cut into shards of equal size.
-- `only` is a list of customers, or null for all; `most` bounds the number, or is null.
INSERT INTO slates (run_id, customer_id, day, shard)
SELECT :run_id, planned.customer_id, CAST(:day AS date), (planned.place - 1) / :shard_size
FROM (
    SELECT customer_id, row_number() OVER (ORDER BY customer_id) AS place
    FROM customers
    WHERE active
      AND (CAST(:only AS text[]) IS NULL OR customer_id = ANY (CAST(:only AS text[])))
    ORDER BY customer_id
    LIMIT CAST(:most AS bigint)
) AS planned
ON CONFLICT DO NOTHING

-- Removes these slates from the partition of 0001-01-01, with whatever hangs on them there.
-- `run_ids` and `customer_ids` are of equal length: a pair for each slate.
WITH unwanted AS (
    SELECT * FROM unnest(CAST(:run_ids AS uuid[]), CAST(:customer_ids AS text[])) AS unwanted (run_id, customer_id)
),
placed_too AS (
    DELETE FROM recommendations AS placed USING unwanted
    WHERE (placed.run_id, placed.customer_id, placed.day)
        = (unwanted.run_id, unwanted.customer_id, date '0001-01-01')
),
refused AS (
    DELETE FROM rejections AS refused USING unwanted
    WHERE (refused.run_id, refused.customer_id, refused.day)
        = (unwanted.run_id, unwanted.customer_id, date '0001-01-01')
),
asked AS (
    DELETE FROM llm_calls AS asked USING unwanted
    WHERE (asked.run_id, asked.customer_id, asked.day) = (unwanted.run_id, unwanted.customer_id, date '0001-01-01')
)
DELETE FROM slates AS slate USING unwanted
WHERE (slate.run_id, slate.customer_id, slate.day) = (unwanted.run_id, unwanted.customer_id, date '0001-01-01')

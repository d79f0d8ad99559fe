-- Takes the leases of the slates of a shard that are being made: rows that their openers still send are refused.
-- The next opener finds them as they are. In one order, as by others who lock slates.
WITH open AS MATERIALIZED (
    SELECT customer_id
    FROM slates
    WHERE run_id = :run_id AND day = CAST(:day AS date) AND shard = :shard AND state = 'streaming'
    ORDER BY customer_id
    FOR UPDATE
)
UPDATE slates AS slate
SET lease = lease + 1, updated_at = now()
FROM open
WHERE slate.run_id = :run_id AND slate.day = CAST(:day AS date) AND slate.customer_id = open.customer_id

-- One refused object of an attempt. Returns no row to whoever holds the slate no more. Done twice it records one.
WITH held AS MATERIALIZED (
    SELECT run_id, customer_id, day, lease
    FROM slates
    WHERE run_id = :run_id
      AND day = CAST(:day AS date)
      AND customer_id = :customer_id
      AND lease = CAST(:lease AS integer)
    FOR SHARE
),
kept AS (
    INSERT INTO rejections (run_id, customer_id, day, attempt, number, reason, detail, raw)
    SELECT run_id, customer_id, day, CAST(:attempt AS integer), CAST(:number AS bigint), :reason, :detail, :raw
    FROM held
    ON CONFLICT DO NOTHING
)
SELECT lease FROM held

-- What the day has spent, as a run would start from it that began now (`open_spending.sql`): today in the shop's time
-- zone, by this server's clock.
SELECT greatest(spent.cost, coalesce(counted.cost, 0)) AS cost,
       greatest(spent.tokens, coalesce(counted.tokens, 0)) AS tokens
FROM (SELECT CAST(now() AT TIME ZONE CAST(:time_zone AS text) AS date) AS day) AS today
CROSS JOIN LATERAL (
    SELECT coalesce(sum(calls.cost), 0) AS cost, coalesce(sum(calls.tokens_in + calls.tokens_out), 0) AS tokens
    FROM runs AS run -- those that were resumed, too
    JOIN llm_calls AS calls ON calls.run_id = run.run_id AND calls.day = run.day
    WHERE run.day BETWEEN today.day - 31 AND today.day + 1
      AND coalesce(run.ended_at, 'infinity') >= CAST(today.day AS timestamp) AT TIME ZONE CAST(:time_zone AS text)
      AND calls.started_at >= CAST(today.day AS timestamp) AT TIME ZONE CAST(:time_zone AS text)
      AND calls.started_at < CAST(today.day + 1 AS timestamp) AT TIME ZONE CAST(:time_zone AS text)
) AS spent
LEFT JOIN spending AS counted ON counted.scope = 'day' AND counted.key = CAST(today.day AS text)

-- A process begins to spend. The run's row and the day's start from what the ledger says was spent, where it says more
-- than they do: caps were set midway, or taken away for a while. The day is today's in the shop's time zone, by this
-- server's clock, but for a process that has one already. Returns the day.
-- Locks are taken in the order in which turns take them: the run's row, then the day's.
WITH today AS (
    SELECT coalesce(%(day)s::date, (now() AT TIME ZONE %(time_zone)s::text)::date) AS day
),
of_the_run AS (
    INSERT INTO spending (scope, key, cost, tokens)
    SELECT 'run', %(run_id)s::text, coalesce(sum(cost), 0), coalesce(sum(tokens_in + tokens_out), 0)
    FROM llm_calls
    WHERE run_id = %(run_id)s::uuid
      AND day = (SELECT day FROM runs WHERE run_id = %(run_id)s::uuid)
    ON CONFLICT (scope, key) DO UPDATE
    SET cost = greatest(spending.cost, excluded.cost),
        tokens = greatest(spending.tokens, excluded.tokens),
        updated_at = now()
    RETURNING 1
),
spent_today AS (
    SELECT coalesce(sum(calls.cost), 0) AS cost, coalesce(sum(calls.tokens_in + calls.tokens_out), 0) AS tokens
    FROM today
    JOIN runs AS run -- those that were resumed, too
        ON run.day BETWEEN today.day - 31 AND today.day + 1
       AND coalesce(run.ended_at, 'infinity') >= today.day::timestamp AT TIME ZONE %(time_zone)s::text
    JOIN llm_calls AS calls
        ON calls.run_id = run.run_id
       AND calls.day = run.day
       AND calls.started_at >= today.day::timestamp AT TIME ZONE %(time_zone)s::text
       AND calls.started_at < (today.day + 1)::timestamp AT TIME ZONE %(time_zone)s::text
),
of_the_day AS (
    INSERT INTO spending (scope, key, cost, tokens)
    SELECT 'day', today.day::text, spent_today.cost, spent_today.tokens
    FROM today
    CROSS JOIN spent_today
    CROSS JOIN (SELECT count(*) FROM of_the_run) AS locked_first
    ON CONFLICT (scope, key) DO UPDATE
    SET cost = greatest(spending.cost, excluded.cost),
        tokens = greatest(spending.tokens, excluded.tokens),
        updated_at = now()
    RETURNING 1
),
introduced AS (
    INSERT INTO spenders (spender, run_key, day_key)
    SELECT %(spender)s, %(run_id)s::text, day::text FROM today
    ON CONFLICT DO NOTHING
),
forgotten AS (
    DELETE FROM spenders
    WHERE spender IN (
        SELECT spender
        FROM spenders
        WHERE updated_at < now() - interval '2 days'
          AND spender <> %(spender)s
        FOR UPDATE SKIP LOCKED -- whoever takes a turn now is not gone
    )
)
SELECT today.day
FROM today
CROSS JOIN (SELECT count(*) FROM of_the_day) AS made

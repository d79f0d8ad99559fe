-- One turn of one process: gives back what it holds and does not need, and reserves the bounds of the requests that wait,
-- in their order, as long as each is within every cap. All or nothing for each: of the run's row and the day's.
-- Where all of them are, it also reserves the last one's bound for some that will come, up to a fiftieth of what is left.
-- A turn that was committed unseen and is sent again changes nothing and is told the same.
-- Locks are taken in one order (the process's own row, the run's, the day's), and each is seen as it is by then.
WITH mine AS MATERIALIZED (
    SELECT turn, admitted, ahead, run_key, day_key
    FROM spenders
    WHERE spender = %(spender)s
    FOR UPDATE
),
run AS MATERIALIZED (
    SELECT spending.cost, spending.tokens
    FROM mine
    JOIN spending ON spending.scope = 'run' AND spending.key = mine.run_key
    FOR NO KEY UPDATE OF spending
),
day AS MATERIALIZED (
    SELECT spending.cost, spending.tokens
    FROM mine
    CROSS JOIN run -- it is locked first
    JOIN spending ON spending.scope = 'day' AND spending.key = mine.day_key
    FOR NO KEY UPDATE OF spending
),
room AS (
    -- least() passes over a cap that is null: there is none
    SELECT least(%(run_cost)s::numeric - run.cost, %(day_cost)s::numeric - day.cost) + %(freed_cost)s AS cost,
           least(%(run_tokens)s::bigint - run.tokens, %(day_tokens)s::bigint - day.tokens) + %(freed_tokens)s AS tokens
    FROM run
    CROSS JOIN day
),
wanted AS (
    SELECT sum(bound.cost) OVER (ORDER BY place) AS cost, sum(bound.tokens) OVER (ORDER BY place) AS tokens
    FROM unnest(%(costs)s::numeric[], %(tokens)s::bigint[]) WITH ORDINALITY AS bound (cost, tokens, place)
),
admitted AS (
    SELECT count(*) AS requests, coalesce(max(wanted.cost), 0) AS cost, coalesce(max(wanted.tokens), 0) AS tokens
    FROM wanted
    CROSS JOIN room
    WHERE coalesce(wanted.cost <= room.cost, true)
      AND coalesce(wanted.tokens <= room.tokens, true)
),
ahead AS (
    SELECT CASE
               WHEN admitted.requests = cardinality(%(costs)s::numeric[])
               THEN greatest(0, floor(least(
                   %(most_ahead)s::numeric,
                   (room.cost - admitted.cost) / nullif(50 * %(ahead_cost)s::numeric, 0),
                   (room.tokens - admitted.tokens) / nullif(50 * %(ahead_tokens)s::numeric, 0)
               )))::integer
               ELSE 0
           END AS requests
    FROM admitted
    CROSS JOIN room
),
reserved AS (
    SELECT admitted.requests,
           ahead.requests AS ahead,
           admitted.cost + ahead.requests * %(ahead_cost)s::numeric AS cost,
           admitted.tokens + ahead.requests * %(ahead_tokens)s::bigint AS tokens
    FROM admitted
    CROSS JOIN ahead
),
spent AS (
    UPDATE spending
    SET cost = spending.cost - %(freed_cost)s + reserved.cost,
        tokens = spending.tokens - %(freed_tokens)s + reserved.tokens,
        updated_at = now()
    FROM mine
    CROSS JOIN reserved
    WHERE mine.turn < %(turn)s
      AND (spending.scope, spending.key) IN (('run', mine.run_key), ('day', mine.day_key))
    RETURNING spending.scope, spending.cost, spending.tokens
),
noted AS (
    UPDATE spenders
    SET turn = %(turn)s,
        admitted = reserved.requests,
        ahead = reserved.ahead,
        in_flight = %(in_flight)s + reserved.requests + reserved.ahead,
        updated_at = now()
    FROM mine
    CROSS JOIN reserved
    WHERE spenders.spender = %(spender)s
      AND mine.turn < %(turn)s
)
SELECT CASE WHEN mine.turn < %(turn)s THEN reserved.requests ELSE mine.admitted END AS admitted,
       CASE WHEN mine.turn < %(turn)s THEN reserved.ahead ELSE mine.ahead END AS ahead,
       coalesce((SELECT cost FROM spent WHERE scope = 'run'), run.cost) AS run_cost,
       coalesce((SELECT tokens FROM spent WHERE scope = 'run'), run.tokens) AS run_tokens,
       coalesce((SELECT cost FROM spent WHERE scope = 'day'), day.cost) AS day_cost,
       coalesce((SELECT tokens FROM spent WHERE scope = 'day'), day.tokens) AS day_tokens,
       (
           SELECT coalesce(sum(other.in_flight), 0)
           FROM spenders AS other
           WHERE other.day_key = mine.day_key
             AND other.spender <> %(spender)s
       ) AS others_in_flight
FROM mine
CROSS JOIN run
CROSS JOIN day
CROSS JOIN reserved

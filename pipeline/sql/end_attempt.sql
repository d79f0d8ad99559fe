-- How an attempt ended, and what it cost: added to the slate's tokens and cost once, however often this is done. What the
-- attempt of a former opener cost is added too, for it was paid; what it says of the slate is not.
-- The slate is locked first, as by whoever opens it: two that lock in two orders would wait for each other for ever.
WITH held AS MATERIALIZED (
    SELECT customer_id
    FROM slates
    WHERE run_id = :run_id
      AND day = CAST(:day AS date)
      AND customer_id = :customer_id
    FOR NO KEY UPDATE
),
ended AS (
    UPDATE llm_calls
    SET ending = :ending,
        error = :error,
        request_id = :request_id,
        model = :model,
        status = CAST(:status AS integer),
        tokens_in = CAST(:tokens_in AS bigint),
        tokens_out = CAST(:tokens_out AS bigint),
        tokens_cached = CAST(:tokens_cached AS bigint),
        tokens_estimated = CAST(:tokens_estimated AS boolean),
        cost = CAST(:cost AS numeric),
        first_byte_s = CAST(:first_byte_s AS double precision),
        whole_s = CAST(:answer_s AS double precision),
        refused_objects = CAST(:refused_objects AS integer),
        score_rises = CAST(:score_rises AS integer),
        ended_at = now()
    WHERE run_id = :run_id
      AND day = CAST(:day AS date)
      AND customer_id = (SELECT customer_id FROM held)
      AND attempt = CAST(:attempt AS integer)
      AND lease = CAST(:lease AS bigint)
      AND ending IN ('in_flight', 'died')
    RETURNING tokens_in, tokens_out, tokens_cached, cost, ending
)
UPDATE slates AS slate
SET tokens_in = slate.tokens_in + ended.tokens_in,
    tokens_out = slate.tokens_out + ended.tokens_out,
    tokens_cached = slate.tokens_cached + ended.tokens_cached,
    cost = CASE WHEN ended.cost IS NULL THEN slate.cost ELSE coalesce(slate.cost, 0) + ended.cost END,
    ending = CASE WHEN slate.lease = CAST(:lease AS bigint) THEN ended.ending ELSE slate.ending END,
    first_row_s = CASE WHEN slate.lease = CAST(:lease AS bigint) THEN CAST(:first_row_s AS double precision) ELSE slate.first_row_s END,
    last_row_s = CASE WHEN slate.lease = CAST(:lease AS bigint) THEN CAST(:last_row_s AS double precision) ELSE slate.last_row_s END,
    whole_s = CASE WHEN slate.lease = CAST(:lease AS bigint) THEN CAST(:slate_s AS double precision) ELSE slate.whole_s END,
    updated_at = now()
FROM ended
WHERE slate.run_id = :run_id
  AND slate.day = CAST(:day AS date)
  AND slate.customer_id = :customer_id

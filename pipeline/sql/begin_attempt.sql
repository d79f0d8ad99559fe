-- One attempt, recorded before its request is sent. Returns no row to whoever holds the slate no more. Done twice it
-- records one attempt.
WITH held AS (
    UPDATE slates
    SET attempts = greatest(attempts, CAST(:attempt AS integer)),
        input_hash = :input_hash,
        updated_at = now()
    WHERE run_id = :run_id
      AND day = CAST(:day AS date)
      AND customer_id = :customer_id
      AND lease = CAST(:lease AS integer)
    RETURNING run_id, customer_id, day, lease
),
begun AS (
    INSERT INTO llm_calls (run_id, customer_id, day, lease, attempt, ending, started_at, endpoint)
    SELECT run_id, customer_id, day, lease, CAST(:attempt AS integer), 'in_flight', now(), :endpoint
    FROM held
    ON CONFLICT DO NOTHING
)
SELECT lease FROM held

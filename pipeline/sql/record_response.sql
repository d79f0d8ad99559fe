-- What became of one recommendation. `is_new` is false where this very response was there already, or one alike in all
-- but its moment since :alike_since, where that is given. Whom or what nobody knows is told and taken all the same: the
-- shop's tables may be loaded later than its events come in. `stood_at` is the rank that the run had given it;
-- `is_early` says that the run was not there yet.
WITH written AS (
    INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at, run_id, rank, response)
    SELECT CAST(:event_key AS uuid), CAST(:customer_id AS text), CAST(:product_id AS text), 'response',
           CAST(:value AS double precision), CAST(:occurred_at AS timestamptz), CAST(:run_id AS uuid),
           CAST(:rank AS integer), CAST(:response AS text)
    WHERE NOT EXISTS (
        SELECT
        FROM events AS alike
        WHERE alike.customer_id = :customer_id
          AND alike.product_id = :product_id
          AND alike.kind = 'response'
          AND alike.response = :response
          AND alike.run_id IS NOT DISTINCT FROM CAST(:run_id AS uuid)
          AND alike.rank IS NOT DISTINCT FROM CAST(:rank AS integer)
          AND alike.occurred_at >= CAST(:alike_since AS timestamptz)
    )
    ON CONFLICT (event_key) DO NOTHING
    RETURNING event_key
)
SELECT EXISTS (SELECT FROM written) AS is_new,
       EXISTS (SELECT FROM customers WHERE customer_id = :customer_id) AS customer_known,
       EXISTS (SELECT FROM products WHERE product_id = :product_id) AS product_known,
       CAST(:run_id AS uuid) IS NULL OR EXISTS (SELECT FROM runs WHERE run_id = :run_id) AS run_known,
       EXISTS (
           SELECT FROM runs WHERE run_id = CAST(:run_id AS uuid) AND created_at > CAST(:occurred_at AS timestamptz)
       ) AS is_early,
       (
           SELECT min(rank)
           FROM recommendations
           WHERE run_id = CAST(:run_id AS uuid) AND customer_id = :customer_id AND product_id = :product_id
       ) AS stood_at

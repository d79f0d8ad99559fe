-- The state that the slate's opener leaves it in. Returns no row to whoever holds it no more.
UPDATE slates
SET state = :state,
    reason = :reason,
    whole_s = CAST(:slate_s AS double precision),
    updated_at = now()
WHERE run_id = :run_id
  AND day = CAST(:day AS date)
  AND customer_id = :customer_id
  AND lease = CAST(:lease AS integer)
RETURNING lease

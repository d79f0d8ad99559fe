-- Takes the lease of a slate that is not complete: whoever opened it before writes nothing to it any more.
UPDATE slates
SET state = 'streaming',
    lease = lease + 1,
    candidate_ids = CAST(:candidate_ids AS text[]),
    reason = NULL,
    updated_at = now()
WHERE run_id = :run_id
  AND day = CAST(:day AS date)
  AND customer_id = :customer_id
  AND state <> 'complete'
RETURNING lease, attempts, first_row_s

-- Takes the lease of a slate that is neither complete nor unchanged: whoever opened it before writes nothing to it any more.
UPDATE slates
SET state = 'streaming',
    lease = lease + 1,
    candidate_ids = CAST(:candidate_ids AS text[]),
    candidate_scores = CAST(:candidate_scores AS real[]),
    candidate_sources = CAST(:candidate_sources AS text),
    candidates_as_of = CAST(:as_of AS timestamptz),
    candidate_build = CAST(:build AS integer),
    removed_candidates = CAST(:removed AS jsonb),
    variant = :variant,
    reason = NULL,
    updated_at = now()
WHERE run_id = :run_id
  AND day = CAST(:day AS date)
  AND customer_id = :customer_id
  AND state NOT IN ('complete', 'unchanged')
RETURNING lease, attempts, first_row_s

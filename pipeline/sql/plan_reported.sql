-- Some first requests of the last nights of a model, drawn at random, with the tokens that their prompts were reported
-- to have: what an estimate of the same prompts is held against. Numbers that recstream had estimated itself count only
-- if the estimate was this version's.
SELECT slate.customer_id, cardinality(slate.candidate_ids) AS candidates, call.tokens_in
FROM (
    SELECT run_id, day, code_version
    FROM runs AS run
    WHERE kind = 'nightly'
      AND model = :model
      AND provenance = :provenance
      AND prompt_version = :prompt_version
      AND ended_at IS NOT NULL
      AND pruned_at IS NULL
      AND EXISTS (SELECT FROM llm_calls WHERE run_id = run.run_id AND day = run.day AND tokens_in > 0)
    ORDER BY created_at DESC
    LIMIT 3
) AS last
JOIN slates AS slate USING (run_id, day)
JOIN llm_calls AS call USING (run_id, day, customer_id)
WHERE coalesce(slate.variant, 'control') = 'control'
  AND call.attempt = 1
  AND call.endpoint IS NULL
  AND call.tokens_in > 0
  AND (NOT call.tokens_estimated OR last.code_version = :code_version)
ORDER BY random()
LIMIT :most

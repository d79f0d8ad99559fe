-- A new row in the ledger of builds.
INSERT INTO candidate_builds (state, trial, method, as_of, recipe)
VALUES ('building', :trial, :method, :as_of, CAST(:recipe AS jsonb))
RETURNING build_id

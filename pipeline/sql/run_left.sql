-- Why customers of a run have no complete slate, and how many: the most frequent reason first.
-- Reasons that differ in numbers alone (a status, a wait, an id) are one, told by the first of them.
SELECT state, min(reason) AS reason, count(*) AS customers
FROM slates
WHERE run_id = :run_id AND day = :day AND state NOT IN ('complete', 'unchanged')
GROUP BY state, regexp_replace(reason, '[0-9]+([.,][0-9]+)*', '0', 'g')
ORDER BY customers DESC, state, reason
LIMIT :most

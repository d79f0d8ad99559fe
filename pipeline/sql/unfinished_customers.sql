-- One page of a shard's customers whose slates are in one of these states, in the order of their ids (keyset pages).
SELECT slate.customer_id
FROM slates AS slate
WHERE slate.run_id = :run_id
  AND slate.day = CAST(:day AS date)
  AND slate.shard = :shard
  AND slate.state = ANY (CAST(:left AS text[]))
  AND slate.customer_id > :after
ORDER BY slate.customer_id
LIMIT :page

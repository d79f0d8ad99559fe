-- One page of a shard's customers whose slates are not complete, in the order of their ids (keyset pages).
SELECT slate.customer_id
FROM slates AS slate
WHERE slate.run_id = :run_id
  AND slate.shard = :shard
  AND slate.state <> 'complete'
  AND slate.customer_id > :after
ORDER BY slate.customer_id
LIMIT :page

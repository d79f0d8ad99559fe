-- The shard is served by this process from now on, if this attempt is the newest and nobody has taken it.
-- Done twice by one process it is taken once.
UPDATE run_shards
SET state = 'serving', process = :process, machine = :machine, taken_at = coalesce(taken_at, clock_timestamp())
WHERE run_id = :run_id
  AND shard = :shard
  AND attempt = :attempt
  AND (state = 'offered' OR state = 'serving' AND process = :process)
RETURNING attempt

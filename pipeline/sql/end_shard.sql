-- How an attempt at a shard ended, unless the shard was offered anew since: then nothing is written.
-- It is ended by the process that serves it, or while nobody does (null) by who could not take it.
UPDATE run_shards
SET state = :state, reason = :reason, error = :error, ended_at = clock_timestamp()
WHERE run_id = :run_id
  AND shard = :shard
  AND attempt = :attempt
  AND (state = 'offered' AND CAST(:process AS uuid) IS NULL OR state = 'serving' AND process = CAST(:process AS uuid))

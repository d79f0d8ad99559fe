-- The shards of a run, and of each that is being served whether its process has been seen lately.
-- `customers_before` is how many customers the shards before it have.
SELECT shard.shard,
       shard.customers,
       sum(shard.customers) OVER (ORDER BY shard.shard) - shard.customers AS customers_before,
       shard.tokens,
       shard.attempt,
       shard.state,
       shard.machine,
       EXTRACT(epoch FROM clock_timestamp() - shard.offered_at) AS offered_s,
       EXTRACT(epoch FROM coalesce(shard.ended_at, clock_timestamp()) - shard.taken_at) AS taken_s,
       shard.reason,
       shard.error,
       coalesce(process.seen_at > clock_timestamp() - make_interval(secs => CAST(:alive_s AS double precision)), false)
           AS alive
FROM run_shards AS shard
LEFT JOIN run_processes AS process USING (run_id, process)
WHERE shard.run_id = :run_id
ORDER BY shard.shard

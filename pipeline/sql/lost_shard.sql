-- Why who has this attempt at a shard is to serve it no more; no row while he may.
-- A run whose parent is taken for dead may be taken up at once: so its shards go on for `grace_s`, unless another night
-- has been planned.
SELECT CASE
           WHEN shard.attempt = :attempt THEN 'over'
           WHEN shard.state = 'waiting' THEN 'taken back'
           ELSE 'taken over'
       END AS why
FROM run_shards AS shard
JOIN runs AS run USING (run_id)
WHERE shard.run_id = :run_id
  AND shard.shard = :shard
  AND (shard.attempt <> :attempt
       OR run.state IN ('finished', 'failed', 'cancelled')
          AND (run.ended_at < clock_timestamp() - make_interval(secs => CAST(:grace_s AS double precision))
               OR run.kind = 'nightly'
                  AND EXISTS (SELECT FROM runs AS later WHERE later.kind = 'nightly' AND later.created_at > run.created_at)))

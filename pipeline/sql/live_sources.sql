-- Where the rows of these runs' slates lie: in the runs themselves, and in those whose slates unchanged customers keep.
-- Of a pruned run only the rows that were kept are there, in the partition of 0001-01-01.
SELECT coalesce(array_agg(run.run_id), '{}') AS run_ids,
       coalesce(array_agg(CASE WHEN run.pruned_at IS NULL THEN run.day ELSE date '0001-01-01' END), '{}') AS days
FROM runs AS run
WHERE run.run_id IN (
    SELECT coalesce(slate.kept_run_id, slate.run_id)
    FROM slates AS slate
    WHERE slate.run_id = ANY (CAST(:run_ids AS uuid[])) AND slate.day = ANY (CAST(:days AS date[]))
)

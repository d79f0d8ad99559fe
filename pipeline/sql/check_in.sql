-- One process of a run says that it lives and hears what is ordered: a row for each order that stands, or one without.
-- Of a limit it is told its part, the same for all but for what is left over. Who gets more waits until the others have
-- heard that they get less, and who has just come gets nothing until he asks again: so the parts never add up to more.
WITH living AS (
    SELECT process, part
    FROM run_processes
    WHERE run_id = :run_id
      AND process <> :process
      AND seen_at > clock_timestamp() - make_interval(secs => CAST(:alive_s AS double precision))
),
place AS (
    SELECT 1 + count(*) AS processes,
           count(*) FILTER (WHERE process < :process) AS before,
           coalesce(sum(part), 0) AS taken,
           EXISTS (SELECT FROM run_processes WHERE run_id = :run_id AND process = :process) AS is_known
    FROM living
),
mine AS (
    SELECT CAST(CASE
               WHEN place.is_known THEN greatest(0, least(
                   ordered.concurrency / place.processes
                       + CASE WHEN place.before < ordered.concurrency % place.processes THEN 1 ELSE 0 END,
                   ordered.concurrency - place.taken
               ))
               ELSE 0
           END AS integer) AS part
    FROM place, standing_orders AS ordered
    WHERE ordered.run_id = :run_id AND ordered.kind = 'limit'
),
newest AS (
    SELECT coalesce(max(order_id), 0) AS heard_of FROM run_orders WHERE run_id = :run_id
),
seen AS (
    INSERT INTO run_processes (run_id, process, heard_of, part, seen_at)
    SELECT :run_id, :process, newest.heard_of, (SELECT part FROM mine), clock_timestamp()
    FROM newest
    ON CONFLICT (run_id, process)
        DO UPDATE SET heard_of = excluded.heard_of, part = excluded.part, seen_at = excluded.seen_at
),
swept AS (
    DELETE FROM run_processes
    WHERE (run_id, process) IN (
        SELECT run_id, process
        FROM run_processes
        WHERE seen_at < clock_timestamp() - make_interval(secs => 10 * CAST(:alive_s AS double precision))
          AND process <> :process
        FOR UPDATE SKIP LOCKED
    )
)
SELECT (SELECT part FROM mine) AS part,
       place.is_known,
       ordered.kind,
       ordered.concurrency,
       ordered.ordered_by,
       ordered.ordered_at
FROM place
LEFT JOIN standing_orders AS ordered ON ordered.run_id = :run_id

-- How many processes work on a run, and how many of them have not heard of an order yet.
SELECT count(*) AS processes,
       count(*) FILTER (WHERE heard_of < :order_id) AS unaware
FROM run_processes
WHERE run_id = :run_id
  AND seen_at > clock_timestamp() - make_interval(secs => CAST(:alive_s AS double precision))

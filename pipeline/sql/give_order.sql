-- An order of a run, written down with who; Postgres adds its login and when. The caller holds the run's row, so that orders have one order.
INSERT INTO run_orders (run_id, kind, concurrency, ordered_by)
VALUES (:run_id, :kind, CAST(:concurrency AS integer), :ordered_by)
RETURNING order_id

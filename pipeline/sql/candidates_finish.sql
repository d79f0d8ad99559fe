-- The build is whole: this is the moment at which it goes into service, unless it was made on trial.
UPDATE candidate_builds
SET state = 'ready',
    ended_at = clock_timestamp(),
    in_service_at = CASE WHEN NOT trial THEN clock_timestamp() END,
    method = :method,
    customers = counted.customers,
    purchases = counted.purchases,
    products = (SELECT count(*) FROM candidate_products WHERE build_id = :build_id),
    pairs = (SELECT coalesce(sum(cardinality(neighbours)), 0) FROM candidate_neighbours WHERE build_id = :build_id)
FROM (
    SELECT count(*) AS customers, coalesce(sum(cardinality(numbers)), 0) AS purchases
    FROM candidate_histories
    WHERE build_id = :build_id
) AS counted
WHERE candidate_builds.build_id = :build_id

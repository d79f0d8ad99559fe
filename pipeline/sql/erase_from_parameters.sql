-- Takes a customer out of the lists of customers that runs were planned for.
UPDATE runs
SET parameters = jsonb_set(parameters, '{only}', (
    SELECT coalesce(jsonb_agg(listed.customer ORDER BY listed.place), '[]')
    FROM jsonb_array_elements(parameters -> 'only') WITH ORDINALITY AS listed (customer, place)
    WHERE listed.customer <> to_jsonb(CAST(:customer_id AS text))
))
WHERE jsonb_typeof(parameters -> 'only') = 'array'
  AND parameters -> 'only' @> to_jsonb(CAST(:customer_id AS text))

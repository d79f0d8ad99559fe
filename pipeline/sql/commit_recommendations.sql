-- Every recommendation of one transaction. A row that is there already, or whose product or rank is taken, is not
-- written and does not come back.
INSERT INTO recommendations
    (run_id, customer_id, rank, product_id, product_name, relevance_score, provenance, attempt)
SELECT *
FROM unnest(
    %(run_ids)s::uuid[], %(customer_ids)s::text[], %(ranks)s::integer[], %(product_ids)s::text[],
    %(product_names)s::text[], %(relevance_scores)s::double precision[], %(provenances)s::text[], %(attempts)s::integer[]
)
ON CONFLICT DO NOTHING
RETURNING run_id, customer_id, rank, product_id, committed_at

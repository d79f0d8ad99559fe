-- Of each of these rows, in their order: when an earlier transaction had committed it exactly so, and whether its lease
-- still holds.
SELECT there.committed_at, held.lease IS NOT NULL AS holds
FROM unnest(
    %(customer_ids)b::text[], %(leases)b::integer[], %(ranks)b::integer[], %(product_ids)b::text[],
    %(product_names)b::text[], %(relevance_scores)b::double precision[], %(attempts)b::integer[]
) WITH ORDINALITY AS sent (customer_id, lease, rank, product_id, product_name, relevance_score, attempt, number)
LEFT JOIN recommendations AS there
    ON there.run_id = %(run_id)b
    AND there.day = %(day)b
    AND there.customer_id = sent.customer_id
    AND there.rank = sent.rank
    AND there.product_id = sent.product_id
    AND there.product_name = sent.product_name
    AND there.relevance_score = sent.relevance_score
    AND there.attempt = sent.attempt
LEFT JOIN slates AS held
    ON held.run_id = %(run_id)b
    AND held.day = %(day)b
    AND held.customer_id = sent.customer_id
    AND held.lease = sent.lease
ORDER BY sent.number

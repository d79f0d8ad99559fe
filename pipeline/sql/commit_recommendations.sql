-- Every recommendation of one transaction, all of one run. A row is written only for who holds the slate's lease: whoever
-- opened the slate last. The lock keeps the lease from being taken before the row is committed. A row that is there
-- already, or whose product or rank is taken, is not written and does not come back. Where another than the run's model
-- ranked it, it says so.
WITH sent AS (
    SELECT *
    FROM unnest(
        %(customer_ids)b::text[], %(leases)b::integer[], %(ranks)b::integer[], %(product_ids)b::text[],
        %(product_names)b::text[], %(relevance_scores)b::double precision[], %(attempts)b::integer[],
        %(provenances)b::text[], %(models)b::text[]
    ) AS sent (
        customer_id, lease, rank, product_id, product_name, relevance_score, attempt, provenance, model
    )
),
held AS MATERIALIZED (
    SELECT slate.customer_id, slate.lease
    FROM slates AS slate
    WHERE slate.run_id = %(run_id)b
      AND slate.day = %(day)b
      AND slate.customer_id = ANY (%(customer_ids)b)
    FOR SHARE
)
INSERT INTO recommendations
    (run_id, day, provenance, model, customer_id, rank, product_id, product_name, relevance_score, attempt)
SELECT %(run_id)b, %(day)b, coalesce(sent.provenance, %(provenance)b), sent.model,
       sent.customer_id, sent.rank, sent.product_id, sent.product_name, sent.relevance_score, sent.attempt
FROM sent
JOIN held USING (customer_id, lease)
ON CONFLICT DO NOTHING
RETURNING customer_id, rank, committed_at

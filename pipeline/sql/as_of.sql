-- The moment up to which a run looks: now, or the newest event of a shop whose events end earlier.
-- What customers answered to a slate comes from recstream's own readers: it is no sign that the shop's events are up to
-- date. Each branch reads one entry of the index (kind, occurred_at).
SELECT coalesce(max(newest.occurred_at), now()) AS as_of
FROM unnest(ARRAY['purchase', 'return', 'view', 'rating', 'search']) AS kinds (kind)
CROSS JOIN LATERAL (
    SELECT event.occurred_at
    FROM events AS event
    WHERE event.kind = kinds.kind
      AND event.occurred_at <= now()
    ORDER BY event.occurred_at DESC
    LIMIT 1
) AS newest

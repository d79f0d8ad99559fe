-- One process renews its leases: for each endpoint it tells what it has seen, and gets its part of the limit until the
-- next renewal. Endpoints come in their order, so that two processes never wait for each other.
SELECT mine.place, renewed.*
FROM jsonb_to_recordset(%(leases)s) AS mine (
    place integer, endpoint text, model text, account text, process uuid, renewal bigint, heard bigint,
    demand integer, in_flight integer, accepted integer, accepted_tokens bigint,
    found_requests double precision, found_tokens double precision,
    known_requests double precision, known_tokens double precision,
    closed_for_s double precision, closed_because text, precedence boolean
)
CROSS JOIN LATERAL recstream_renew_lease(
    mine.endpoint, mine.model, mine.account, mine.process, mine.renewal, mine.heard,
    mine.demand, mine.in_flight, mine.accepted, mine.accepted_tokens,
    mine.found_requests, mine.found_tokens, mine.known_requests, mine.known_tokens,
    mine.closed_for_s, mine.closed_because, coalesce(mine.precedence, false)
) AS renewed

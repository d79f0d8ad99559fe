-- What is known of today's limits of an endpoint, for one model and one account.
SELECT requests_per_minute, tokens_per_minute, requests_from, tokens_from,
       greatest(extract(epoch FROM closed_until - clock_timestamp()), 0)::double precision AS closed_for_s
FROM endpoint_limits
WHERE endpoint = :endpoint
  AND model = :model
  AND account = :account
  AND updated_at > now() - interval '1 day'

"""Processes keep to one limit for each endpoint: what is known of it, and who uses how much of it at the moment.

A renewed lease says what a process has seen and gets its part of the limit, in one statement. It is a function because
it has to see what the others have committed since it began to wait for them. Docs: docs/decisions/0021.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LIMITS = """
CREATE TABLE endpoint_limits (
    endpoint text NOT NULL,
    model text NOT NULL,
    account text NOT NULL,
    requests_per_minute double precision CHECK (requests_per_minute >= 0),
    tokens_per_minute double precision CHECK (tokens_per_minute >= 0),
    requests_from text CHECK (requests_from IN ('headers', 'refusals')),
    tokens_from text CHECK (tokens_from IN ('headers', 'refusals')),
    tokens_per_request double precision,
    known_at timestamptz,
    headers_at timestamptz,
    closed_at timestamptz,
    closed_until timestamptz,
    closed_because text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint, model, account)
);
COMMENT ON TABLE endpoint_limits IS 'What is known of the limits of a provider, for all processes that ask it.';
COMMENT ON COLUMN endpoint_limits.account IS 'Tells keys apart: the first digits of a digest of the key.';
COMMENT ON COLUMN endpoint_limits.known_at IS 'When somebody last used the rates, or heard of them.';
COMMENT ON COLUMN endpoint_limits.headers_at IS 'When the endpoint itself last told a rate.';
COMMENT ON COLUMN endpoint_limits.closed_until IS 'Nobody asks before: the endpoint wished to be left alone.';
CREATE TABLE limit_leases (
    endpoint text NOT NULL,
    model text NOT NULL,
    account text NOT NULL,
    process uuid NOT NULL,
    renewal bigint NOT NULL,
    began_at timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    demand integer NOT NULL,
    in_flight integer NOT NULL,
    used_requests double precision NOT NULL,
    used_tokens double precision NOT NULL,
    portion double precision NOT NULL CHECK (portion BETWEEN 0 AND 1),
    held double precision NOT NULL CHECK (held BETWEEN portion AND 1),
    requests_per_minute double precision,
    tokens_per_minute double precision,
    PRIMARY KEY (endpoint, model, account, process)
);
COMMENT ON TABLE limit_leases IS 'The part of a limit that each living process has; one that dies loses it by itself.';
COMMENT ON COLUMN limit_leases.demand IS 'Requests that wait or are under way.';
COMMENT ON COLUMN limit_leases.used_requests IS 'Accepted a minute, of the last seconds.';
COMMENT ON COLUMN limit_leases.portion IS 'Its part of the endpoint''s rates, as it was told last.';
COMMENT ON COLUMN limit_leases.held IS 'What it may still be using: more than its part, until it has heard of less.';
COMMENT ON COLUMN limit_leases.requests_per_minute IS 'Its part as a rate; null where the endpoint''s is unknown.';
ALTER TABLE endpoint_limits OWNER TO recstream_owner;
ALTER TABLE limit_leases OWNER TO recstream_owner;
GRANT SELECT, INSERT, UPDATE ON endpoint_limits TO recstream_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON limit_leases TO recstream_writer;
"""

# Headers are the endpoint's own word. Without them the first who found a rate speaks for what all of them used; from
# then on each says by how much he has moved since he was told his part, and the whole moves by as much.
LEARN = """
CREATE FUNCTION recstream_learn_rate(
    rate double precision, rate_from text, headers_are_old boolean, its_header double precision,
    its_finding double precision, its_part double precision, its_use double precision, use_of_others double precision,
    OUT learnt double precision, OUT learnt_from text
) LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $learn$
DECLARE
    least_rate CONSTANT double precision := 0.1;
BEGIN
    learnt := rate;
    learnt_from := rate_from;
    IF its_header >= 0 THEN
        learnt := its_header;
        learnt_from := 'headers';
    ELSIF its_finding IS NULL OR (rate_from = 'headers' AND NOT coalesce(headers_are_old, true)) THEN
        RETURN;
    ELSIF rate IS NULL THEN
        learnt := greatest(least(its_finding, its_use) + use_of_others, least_rate);
        learnt_from := 'refusals';
    ELSIF its_part > 0 THEN
        learnt := greatest(rate + least(greatest(its_finding, its_part / 4), its_part * 2) - its_part, least_rate);
        learnt_from := 'refusals';
    END IF;
END $learn$;
COMMENT ON FUNCTION recstream_learn_rate IS 'What an endpoint allows a minute, after one process has told what it saw.';
"""

# Half of the weight is the same for all who ask, half goes by how much they ask: much demand has more, and starves
# nobody. Nobody is given more than he can use while another could use it.
TARGET = """
CREATE FUNCTION recstream_fair_portion(
    its_endpoint text, its_model text, its_account text, its_process uuid,
    its_demand integer, its_in_flight integer, its_use double precision, capacity double precision
) RETURNS double precision LANGUAGE sql STABLE SET search_path FROM CURRENT AS $fair$
WITH asking AS (
    SELECT process, demand AS asked, greatest(demand - in_flight, 0) AS waiting, used_requests AS used
    FROM limit_leases
    WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account) AND process <> its_process
    UNION ALL
    SELECT its_process, its_demand, greatest(its_demand - its_in_flight, 0), its_use
),
weighed AS (
    SELECT process,
           (asked + 0.1) / sum(asked + 0.1) OVER ()
               + CASE WHEN asked > 0 THEN 1.0 / count(*) FILTER (WHERE asked > 0) OVER () ELSE 0 END AS weight,
           -- What waits is served within 5 seconds; one who is idle may send his next request at once.
           coalesce(least((12 * waiting + 1.25 * used + 1.2) / nullif(capacity, 0), 1), 1) AS need
    FROM asking
),
-- From the smallest need on: what those before leave, for each unit of the weight of those who are left.
filled AS (
    SELECT process, weight, need,
           (1 - sum(need) OVER row_by_row + need)
               / (sum(weight) OVER () - sum(weight) OVER row_by_row + weight) AS level
    FROM weighed
    WINDOW row_by_row AS (ORDER BY need / weight, process)
),
whole AS (
    SELECT max(level) FILTER (WHERE need > level * weight) AS level, sum(need) AS need, sum(weight) AS weight
    FROM filled
)
SELECT CASE WHEN whole.level IS NULL THEN filled.need + (1 - whole.need) * filled.weight / whole.weight
            ELSE least(filled.need, whole.level * filled.weight)
       END
FROM filled, whole
WHERE filled.process = its_process
$fair$;
COMMENT ON FUNCTION recstream_fair_portion IS 'The part of a limit that a process should have beside the others.';
"""

RENEW = """
CREATE FUNCTION recstream_renew_lease(
    its_endpoint text, its_model text, its_account text,
    its_process uuid, its_renewal bigint, it_heard bigint,
    its_demand integer, its_in_flight integer, it_accepted integer, it_accepted_tokens bigint,
    its_found_requests double precision, its_found_tokens double precision,
    its_known_requests double precision, its_known_tokens double precision,
    its_closed_for_s double precision, its_closed_because text,
    OUT processes integer, OUT portion double precision,
    OUT requests_per_minute double precision, OUT tokens_per_minute double precision,
    OUT requests_from text, OUT tokens_from text,
    OUT endpoint_requests_per_minute double precision, OUT endpoint_tokens_per_minute double precision,
    OUT fresh boolean, OUT closed_for_s double precision, OUT closed_because text
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $renew$
#variable_conflict use_column
DECLARE
    lasts CONSTANT interval := '5 seconds';
    known endpoint_limits%ROWTYPE;
    mine limit_leases%ROWTYPE;
    others record;
    moment timestamptz;
    since_s double precision;
    weight double precision;
    start_rate double precision;
    heard boolean;
    uses_it boolean;
    learnt record;
BEGIN
    -- One after another: what follows sees all that those before have committed.
    LOOP
        SELECT * INTO known FROM endpoint_limits
        WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account)
        FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO endpoint_limits (endpoint, model, account) VALUES (its_endpoint, its_model, its_account)
        ON CONFLICT DO NOTHING;
    END LOOP;
    moment := clock_timestamp();

    -- A clock that was set back would have a dead process live on.
    UPDATE limit_leases SET expires_at = moment + lasts, renewed_at = moment
    WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account) AND expires_at > moment + lasts;
    DELETE FROM limit_leases
    WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account) AND expires_at <= moment;
    DELETE FROM limit_leases
    WHERE (endpoint, model, account, process) IN (
        SELECT endpoint, model, account, process FROM limit_leases WHERE expires_at < moment - interval '1 hour'
        FOR UPDATE SKIP LOCKED
    );

    SELECT * INTO mine FROM limit_leases
    WHERE (endpoint, model, account, process) = (its_endpoint, its_model, its_account, its_process);
    IF mine.renewal >= its_renewal THEN
        its_renewal := NULL; -- it comes too late: a later one has been answered
    END IF;
    IF mine.process IS NULL THEN
        mine.began_at := moment;
        mine.renewed_at := moment - interval '1 second';
        mine.used_requests := 0;
        mine.used_tokens := 0;
    END IF;
    heard := coalesce(mine.renewal = it_heard, false);
    SELECT count(*) AS number, coalesce(sum(held), 0) AS held, min(began_at) AS began_at,
           coalesce(sum(used_requests), 0) AS used_requests, coalesce(sum(used_tokens), 0) AS used_tokens
    INTO others FROM limit_leases
    WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account) AND process <> its_process;

    IF its_renewal IS NOT NULL THEN
        it_accepted := greatest(it_accepted, 0);
        it_accepted_tokens := greatest(it_accepted_tokens, 0);
        since_s := least(greatest(extract(epoch FROM moment - mine.renewed_at), 0.2), 60);
        -- Of the time before it began nothing is known: a mean of the seconds since then, then of the last ones.
        weight := greatest(1 - exp(-since_s / 3), least(since_s / (1 + extract(epoch FROM moment - mine.began_at)), 1));
        mine.used_requests := mine.used_requests + (60 * it_accepted / since_s - mine.used_requests) * weight;
        mine.used_tokens := mine.used_tokens + (60 * it_accepted_tokens / since_s - mine.used_tokens) * weight;

        IF known.known_at < moment - interval '1 day' THEN
            known.requests_per_minute := NULL;
            known.tokens_per_minute := NULL;
            known.requests_from := NULL;
            known.tokens_from := NULL;
            known.known_at := NULL;
        END IF;
        -- Less than one request a minute is nobody's limit, but a mistake: unless the endpoint itself says so.
        IF known.known_at < moment - interval '1 minute' THEN
            IF known.requests_from = 'refusals' AND known.requests_per_minute < 1 THEN
                known.requests_per_minute := NULL;
                known.requests_from := NULL;
            END IF;
            IF known.tokens_from = 'refusals'
               AND known.tokens_per_minute < coalesce(known.tokens_per_request, 1) THEN
                known.tokens_per_minute := NULL;
                known.tokens_from := NULL;
            END IF;
        END IF;
        -- Who was let in less than once a minute of late has not shown what it could use.
        uses_it := mine.used_requests >= 1;
        SELECT * INTO learnt FROM recstream_learn_rate(
            known.requests_per_minute, known.requests_from, known.headers_at < moment - interval '5 minutes',
            its_known_requests, its_found_requests, CASE WHEN heard THEN mine.requests_per_minute END,
            CASE WHEN uses_it THEN mine.used_requests END, others.used_requests);
        known.requests_per_minute := learnt.learnt;
        known.requests_from := learnt.learnt_from;
        SELECT * INTO learnt FROM recstream_learn_rate(
            known.tokens_per_minute, known.tokens_from, known.headers_at < moment - interval '5 minutes',
            its_known_tokens, its_found_tokens, CASE WHEN heard THEN mine.tokens_per_minute END,
            CASE WHEN uses_it THEN mine.used_tokens END, others.used_tokens);
        known.tokens_per_minute := learnt.learnt;
        known.tokens_from := learnt.learnt_from;
        IF its_known_requests >= 0 OR its_known_tokens >= 0 THEN
            known.headers_at := moment;
        END IF;
        IF it_accepted > 0 OR known.headers_at = moment OR known.known_at IS NULL THEN
            known.known_at := CASE
                WHEN known.requests_per_minute IS NULL AND known.tokens_per_minute IS NULL THEN NULL ELSE moment END;
        END IF;
        IF it_accepted > 0 AND it_accepted_tokens > 0 THEN
            known.tokens_per_request := coalesce(
                (7 * known.tokens_per_request + it_accepted_tokens / it_accepted) / 8,
                it_accepted_tokens / it_accepted);
        END IF;

        IF it_accepted > 0 AND mine.began_at > known.closed_at THEN
            known.closed_until := NULL; -- one who came later was let in
        END IF;
        IF its_closed_for_s > 0
           AND moment + make_interval(secs => its_closed_for_s) > coalesce(known.closed_until, moment) THEN
            known.closed_at := CASE WHEN known.closed_until > moment THEN known.closed_at ELSE moment END;
            known.closed_until := moment + make_interval(secs => its_closed_for_s);
            known.closed_because := its_closed_because;
        END IF;

        mine.held := CASE WHEN heard THEN mine.portion ELSE coalesce(mine.held, 0) END;
        mine.portion := greatest(least(recstream_fair_portion(
            its_endpoint, its_model, its_account, its_process, its_demand, its_in_flight, mine.used_requests,
            least(known.requests_per_minute, known.tokens_per_minute / coalesce(known.tokens_per_request, 1000))
        ), 1 - others.held), 0);
        mine.held := greatest(mine.held, mine.portion);
        mine.requests_per_minute := mine.portion * known.requests_per_minute;
        mine.tokens_per_minute := mine.portion * known.tokens_per_minute;

        INSERT INTO limit_leases VALUES (
            its_endpoint, its_model, its_account, its_process, its_renewal, mine.began_at, moment, moment + lasts,
            its_demand, its_in_flight, mine.used_requests, mine.used_tokens, mine.portion, mine.held,
            mine.requests_per_minute, mine.tokens_per_minute)
        ON CONFLICT (endpoint, model, account, process) DO UPDATE SET
            renewal = excluded.renewal, renewed_at = excluded.renewed_at, expires_at = excluded.expires_at,
            demand = excluded.demand, in_flight = excluded.in_flight, used_requests = excluded.used_requests,
            used_tokens = excluded.used_tokens, portion = excluded.portion, held = excluded.held,
            requests_per_minute = excluded.requests_per_minute, tokens_per_minute = excluded.tokens_per_minute;
        UPDATE endpoint_limits SET
            requests_per_minute = known.requests_per_minute, tokens_per_minute = known.tokens_per_minute,
            requests_from = known.requests_from, tokens_from = known.tokens_from,
            tokens_per_request = known.tokens_per_request, known_at = known.known_at, headers_at = known.headers_at,
            closed_at = known.closed_at, closed_until = known.closed_until, closed_because = known.closed_because,
            updated_at = moment
        WHERE (endpoint, model, account) = (its_endpoint, its_model, its_account);
    END IF;

    processes := others.number + 1;
    portion := mine.portion;
    -- Where nobody knows a limit yet, those who begin together begin slowly, and twice as fast each second.
    IF known.requests_per_minute IS NULL AND others.number > 0 THEN
        start_rate := 600 * 2 ^ least(extract(epoch FROM moment - least(others.began_at, mine.began_at)), 60);
    END IF;
    requests_per_minute := coalesce(
        mine.requests_per_minute, mine.portion * CASE WHEN start_rate < 60000 THEN start_rate END);
    tokens_per_minute := mine.tokens_per_minute;
    requests_from := known.requests_from;
    tokens_from := known.tokens_from;
    endpoint_requests_per_minute := known.requests_per_minute;
    endpoint_tokens_per_minute := known.tokens_per_minute;
    fresh := coalesce(known.known_at > moment - interval '10 minutes', true);
    closed_for_s := CASE
        -- A long closure may have been lifted by hand: one who comes later tries for himself.
        WHEN known.closed_until - known.closed_at > interval '15 minutes' AND mine.began_at > known.closed_at THEN 0
        ELSE coalesce(greatest(extract(epoch FROM known.closed_until - moment), 0), 0)
    END;
    closed_because := CASE WHEN closed_for_s > 0 THEN known.closed_because END;
END $renew$;
COMMENT ON FUNCTION recstream_renew_lease IS
    'Takes in what a process has seen of an endpoint, and gives it its part of the limit for the next seconds.';
"""

RIGHTS = """
ALTER FUNCTION recstream_learn_rate OWNER TO recstream_owner;
ALTER FUNCTION recstream_fair_portion OWNER TO recstream_owner;
ALTER FUNCTION recstream_renew_lease OWNER TO recstream_owner;
REVOKE ALL ON FUNCTION recstream_learn_rate, recstream_fair_portion, recstream_renew_lease FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recstream_learn_rate, recstream_fair_portion, recstream_renew_lease TO recstream_writer;
"""


def upgrade() -> None:
    for statements in (LIMITS, LEARN, TARGET, RENEW, RIGHTS):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP FUNCTION recstream_renew_lease, recstream_fair_portion, recstream_learn_rate")
    op.execute("DROP TABLE limit_leases; DROP TABLE endpoint_limits")

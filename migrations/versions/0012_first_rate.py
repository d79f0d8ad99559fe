"""The first rate that a process finds out tells of the others' as well: by its portion, not by what they had told.

What the others use is up to a renewal old, and of those that have just begun it is nothing: four processes that began
together took a quarter of the limit for the whole, and needed ten seconds to find out. Docs: docs/decisions/0021.
"""

from importlib import import_module

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Headers are the endpoint's own word. Without them the first who found a rate speaks for all of them: each has a
# portion of what there is. From then on each says by how much he has moved since he was told his part, and the whole
# moves by as much.
LEARN = """
DROP FUNCTION recstream_learn_rate;
CREATE FUNCTION recstream_learn_rate(
    rate double precision, rate_from text, headers_are_old boolean, its_header double precision,
    its_finding double precision, its_part double precision, its_use double precision, use_of_others double precision,
    its_portion double precision,
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
        learnt := least(its_finding, its_use);
        learnt := greatest(learnt + use_of_others, learnt / its_portion, least_rate);
        learnt_from := 'refusals';
    ELSIF its_part > 0 THEN
        learnt := greatest(rate + least(greatest(its_finding, its_part / 4), its_part * 2) - its_part, least_rate);
        learnt_from := 'refusals';
    END IF;
END $learn$;
COMMENT ON FUNCTION recstream_learn_rate IS 'What an endpoint allows a minute, after one process has told what it saw.';
ALTER FUNCTION recstream_learn_rate OWNER TO recstream_owner;
REVOKE ALL ON FUNCTION recstream_learn_rate FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recstream_learn_rate TO recstream_writer;
"""

# As it was in 0007, but that it says its portion where it asks what is learnt.
RENEW = """
CREATE OR REPLACE FUNCTION recstream_renew_lease(
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
            CASE WHEN uses_it THEN greatest(mine.used_requests, 60 * it_accepted / since_s) END,
            others.used_requests,
            CASE WHEN heard AND mine.portion > 0 THEN mine.portion END);
        known.requests_per_minute := learnt.learnt;
        known.requests_from := learnt.learnt_from;
        SELECT * INTO learnt FROM recstream_learn_rate(
            known.tokens_per_minute, known.tokens_from, known.headers_at < moment - interval '5 minutes',
            its_known_tokens, its_found_tokens, CASE WHEN heard THEN mine.tokens_per_minute END,
            CASE WHEN uses_it THEN greatest(mine.used_tokens, 60 * it_accepted_tokens / since_s) END,
            others.used_tokens,
            CASE WHEN heard AND mine.portion > 0 THEN mine.portion END);
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
"""


def upgrade() -> None:
    for statements in (LEARN, RENEW):
        op.execute(statements)


def downgrade() -> None:
    before = import_module("migrations.versions.0007_limits")
    op.execute("DROP FUNCTION recstream_learn_rate")
    op.execute(before.LEARN)
    op.execute(before.RENEW.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute(
        "ALTER FUNCTION recstream_learn_rate OWNER TO recstream_owner; "
        "REVOKE ALL ON FUNCTION recstream_learn_rate FROM PUBLIC; "
        "GRANT EXECUTE ON FUNCTION recstream_learn_rate TO recstream_writer"
    )

"""The statement that renews a lease, by hand: nobody ever has more than his part, and what one finds is everybody's."""

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.database import open_connection
from pipeline.limits.sharing import LimitKey
from tests.fixtures.leases import KEY, MadeUpProcess

LITTLE = 1e-9
UNTIL_EVEN = 4  # renewals of everybody: to hear of less, to confirm it, and to be given what became free


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection as the service has them."""
    with open_connection(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_connection(module_database_url: str) -> Iterator[psycopg.Connection]:
    with open_connection(module_database_url, autocommit=True) as opened:
        yield opened


def some(connection: psycopg.Connection, number: int) -> list[MadeUpProcess]:
    return [MadeUpProcess(connection) for _ in range(number)]


def a_second_passes(connection: psycopg.Connection) -> None:
    """Since the last renewals, as far as rates are concerned."""
    connection.execute(
        "UPDATE limit_leases SET renewed_at = renewed_at - interval '1 s', began_at = began_at - interval '1 s'"
    )


def portions(*processes: MadeUpProcess) -> list[float]:
    return [process.share.portion for process in processes]


def even_out(*demands: tuple[MadeUpProcess, int]) -> None:
    for _ in range(UNTIL_EVEN):
        for process, demand in demands:
            process.renew(demand)


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["renews", "renews", "renews", "hears nothing", "dies", "comes late"]),
        st.integers(0, 2_000),
        st.integers(0, 64),
        st.sampled_from([None, 60.0, 600.0]),
    ),
    min_size=5,
    max_size=40,
)


@given(actions=ACTIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_all_processes_use_together_is_never_more_than_the_whole(
    module_connection: psycopg.Connection, actions: list[tuple[int, str, int, int, float | None]]
) -> None:
    module_connection.execute("DELETE FROM limit_leases")
    processes = some(module_connection, 5)
    for place, action, demand, in_flight, known in actions:
        process = processes[place]
        if action == "dies":
            process.die()
        elif action == "comes late":
            process.send(process.renewal, demand=demand, in_flight=in_flight)
        else:
            process.renew(demand, in_flight, hears=action == "renews", accepted=1, known_requests=known)

        held = module_connection.execute("SELECT coalesce(sum(held), 0) FROM limit_leases").fetchone()
        assert held is not None
        assert held[0] <= 1 + LITTLE
        assert sum(portions(*processes)) <= 1 + LITTLE


@given(demands=st.lists(st.integers(0, 3_000), min_size=1, max_size=12), rate=st.sampled_from([None, 6.0, 600.0, 6e5]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_whole_is_used_and_whoever_asks_has_a_part(
    module_connection: psycopg.Connection, demands: list[int], rate: float | None
) -> None:
    module_connection.execute("DELETE FROM limit_leases; UPDATE endpoint_limits SET requests_per_minute = NULL")
    processes = some(module_connection, len(demands))
    if rate is not None:
        processes[0].renew(1, accepted=1, known_requests=rate)
    even_out(*zip(processes, demands, strict=True))

    assert sum(portions(*processes)) == pytest.approx(1, abs=0.01)
    for process, demand in zip(processes, demands, strict=True):
        fair = 0.5 / len(demands)
        enough = 12 * demand / rate if rate is not None else fair * bool(demand)
        assert process.share.portion >= min(fair, enough) - LITTLE


def test_who_gets_more_waits_until_the_other_has_heard_of_less(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    assert first.renew(demand=100).portion == pytest.approx(1)
    assert second.renew(demand=100).portion == 0, "the first still uses all of it"

    assert first.renew(demand=100).portion == pytest.approx(0.5)
    assert second.renew(demand=100).portion == 0, "the first has been answered, but may not have heard"
    first.renew(demand=100)
    assert second.renew(demand=100).portion == pytest.approx(0.5)


def test_a_share_whose_answer_was_lost_stays_with_who_may_use_it(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    first.renew(demand=100)
    second.renew(demand=100)
    for _ in range(3):
        first.renew(demand=100, hears=False)
        assert second.renew(demand=100).portion == 0


def test_a_renewal_that_arrives_after_a_later_one_changes_nothing(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    even_out((first, 10), (second, 10))
    before = connection.execute("SELECT * FROM limit_leases ORDER BY process").fetchall()

    late = first.send(first.renewal - 1, demand=3_000, closed_for_s=100.0, accepted=7, known_requests=1.0)
    assert late.portion == first.share.portion
    assert connection.execute("SELECT * FROM limit_leases ORDER BY process").fetchall() == before
    assert second.renew().closed_for_s == 0


def test_one_who_came_first_and_took_all_is_evened_out(connection: psycopg.Connection) -> None:
    processes = some(connection, 4)
    processes[0].renew(demand=50, accepted=1, known_requests=600.0)
    even_out(*((process, 50) for process in processes))

    assert portions(*processes) == pytest.approx([0.25] * 4)
    assert [process.share.requests_per_minute for process in processes] == pytest.approx([150.0] * 4)
    assert processes[0].share.processes == 4


def test_a_process_with_a_thousand_waiting_leaves_enough_to_one_with_a_single_request(
    connection: psycopg.Connection,
) -> None:
    many, one = some(connection, 2)
    many.renew(1_000, accepted=1, known_requests=600.0)
    even_out((many, 1_000), (one, 1))

    assert one.share.requests_per_minute is not None
    assert 12 <= one.share.requests_per_minute <= 30, "in five seconds it is served, and takes no more than that"
    assert many.share.portion > 0.9


def test_who_has_more_waiting_gets_more(connection: psycopg.Connection) -> None:
    more, less = some(connection, 2)
    more.renew(1_000, accepted=1, known_requests=600.0)
    even_out((more, 1_000), (less, 200))

    assert 1.5 < more.share.portion / less.share.portion < 3


def test_an_idle_process_holds_nothing_for_long(connection: psycopg.Connection) -> None:
    idle, busy = some(connection, 2)
    idle.renew(50, accepted=1, known_requests=600.0)
    even_out((idle, 0), (busy, 50))

    assert idle.share.portion < 0.01
    assert busy.share.portion > 0.98


def test_a_dead_process_s_part_is_the_others_again_and_its_row_is_gone(connection: psycopg.Connection) -> None:
    dead, alive = some(connection, 2)
    even_out((dead, 10), (alive, 10))
    dead.die()

    assert alive.renew().portion == pytest.approx(1)
    assert alive.share.processes == 1
    assert connection.execute("SELECT process FROM limit_leases").fetchall() == [(alive.process,)]


def test_rows_of_endpoints_that_nobody_asks_any_more_are_purged(connection: psycopg.Connection) -> None:
    MadeUpProcess(connection, LimitKey("http://former/v1", "a-model", "x")).renew()
    connection.execute("UPDATE limit_leases SET expires_at = clock_timestamp() - interval '2 hours'")
    asking = MadeUpProcess(connection)
    asking.renew()

    assert connection.execute("SELECT process FROM limit_leases").fetchall() == [(asking.process,)]


@pytest.mark.parametrize(
    "other", [KEY._replace(endpoint="http://b/v1"), KEY._replace(model="b"), KEY._replace(account="b")]
)
def test_two_limits_do_not_touch_each_other(connection: psycopg.Connection, other: LimitKey) -> None:
    here, there = MadeUpProcess(connection), MadeUpProcess(connection, other)
    here.renew(accepted=1, known_requests=600.0, closed_for_s=100.0)
    there.renew()

    assert there.share.portion == pytest.approx(1)
    assert there.share.requests_per_minute is None
    assert there.share.closed_for_s == 0
    assert there.share.processes == 1


def test_what_one_found_is_everybody_s_and_counts_what_the_others_used(connection: psycopg.Connection) -> None:
    finder, other, newcomer = some(connection, 3)
    for _ in range(12):
        finder.renew(accepted=5)
        other.renew(accepted=5)
        a_second_passes(connection)
    found = finder.renew(found_requests=300.0).endpoint_requests_per_minute

    assert found == pytest.approx(600, rel=0.25)
    assert newcomer.renew().endpoint_requests_per_minute == found
    assert newcomer.share.requests_from == "refusals"


def test_what_one_found_of_its_portion_stands_for_the_portions_of_those_who_have_said_nothing_yet(
    connection: psycopg.Connection,
) -> None:
    first, second = some(connection, 2)
    for _ in range(4):
        first.renew(demand=64)
        second.renew(demand=64)
        a_second_passes(connection)
    assert first.share.portion == pytest.approx(1 / 2)

    found = first.renew(demand=64, accepted=100, found_requests=300.0).endpoint_requests_per_minute
    assert found == pytest.approx(600)


def test_what_one_found_is_not_more_than_was_accepted_of_it(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    first.renew(demand=64)
    second.renew(demand=64)
    a_second_passes(connection)

    found = first.renew(demand=64, accepted=10, found_requests=20_000.0).endpoint_requests_per_minute
    assert found is not None
    assert found <= 600


def test_those_who_begin_together_begin_slowly_and_twice_as_fast_each_second(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    assert first.renew().requests_per_minute is None, "one alone finds out by itself"
    assert second.renew().requests_per_minute == 0
    began = first.renew()
    assert began.requests_per_minute is not None
    assert 600 * began.portion < began.requests_per_minute < 2_400
    assert began.endpoint_requests_per_minute is None

    connection.execute("UPDATE limit_leases SET began_at = began_at - interval '1 second'")
    later = first.renew().requests_per_minute
    assert later is not None
    assert later >= 2 * began.requests_per_minute
    connection.execute("UPDATE limit_leases SET began_at = began_at - interval '10 seconds'")
    assert first.renew().requests_per_minute is None


def test_the_whole_moves_by_as_much_as_each_has_moved_since_he_was_told(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    first.renew(found_requests=600.0)
    even_out((first, 10), (second, 10))
    assert portions(first, second) == pytest.approx([0.5, 0.5])

    assert first.renew(found_requests=270.0).endpoint_requests_per_minute == pytest.approx(570)
    assert second.renew(found_requests=330.0).endpoint_requests_per_minute == pytest.approx(600)


def test_moving_a_part_from_one_to_another_does_not_change_the_whole(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    first.renew(found_requests=600.0)
    for _ in range(10):
        for process, demand in ((first, 10), (second, 500)):
            process.renew(demand, found_requests=process.share.requests_per_minute)

    assert second.share.endpoint_requests_per_minute == pytest.approx(600)
    assert sum(portions(first, second)) == pytest.approx(1)


def test_one_report_moves_the_whole_by_a_bounded_step(connection: psycopg.Connection) -> None:
    process = MadeUpProcess(connection)
    process.renew(found_requests=600.0)
    assert process.renew(found_requests=0.0).endpoint_requests_per_minute == pytest.approx(150)
    assert process.renew(found_requests=1e9).endpoint_requests_per_minute == pytest.approx(300)


def test_headers_win_over_what_was_found_out(connection: psycopg.Connection) -> None:
    process = MadeUpProcess(connection)
    process.renew(found_requests=600.0, found_tokens=1_000.0)
    share = process.renew(known_requests=1_200.0, found_requests=300.0, accepted=1)
    assert share.endpoint_requests_per_minute == 1_200
    assert share.requests_from == "headers"
    assert share.tokens_from == "refusals"

    assert process.renew(found_requests=300.0).endpoint_requests_per_minute == 1_200
    assert process.renew(known_requests=2_400.0, accepted=1).endpoint_requests_per_minute == 2_400


def test_headers_that_were_told_long_ago_no_longer_win(connection: psycopg.Connection) -> None:
    process = MadeUpProcess(connection)
    process.renew(known_requests=1_200.0, accepted=1)
    connection.execute("UPDATE endpoint_limits SET headers_at = headers_at - interval '6 minutes'")

    share = process.renew(found_requests=600.0)
    assert share.endpoint_requests_per_minute == pytest.approx(600)
    assert share.requests_from == "refusals"


def test_a_limit_of_nothing_is_everybody_s_too(connection: psycopg.Connection) -> None:
    first, second = some(connection, 2)
    first.renew(known_requests=0.0, refused=1)
    assert second.renew().endpoint_requests_per_minute == 0
    assert second.share.requests_per_minute == 0


@pytest.mark.parametrize(
    ("age", "fresh", "rate"), [("1 minute", True, 600.0), ("11 minutes", False, 600.0), ("25 hours", True, None)]
)
def test_a_new_process_begins_with_what_is_known_of_today(
    connection: psycopg.Connection, age: str, fresh: bool, rate: float | None
) -> None:
    former = MadeUpProcess(connection)
    former.renew(found_requests=600.0)
    former.die()
    connection.execute("UPDATE endpoint_limits SET known_at = known_at - CAST(%s AS interval)", [age])

    share = MadeUpProcess(connection).renew()
    assert (share.requests_per_minute, share.fresh) == (rate, fresh)


def test_what_was_accepted_is_never_less_than_nothing(connection: psycopg.Connection) -> None:
    process = MadeUpProcess(connection)
    for _ in range(3):
        process.renew(accepted=-5, accepted_tokens=-5_000)
        a_second_passes(connection)

    assert connection.execute("SELECT used_requests, used_tokens FROM limit_leases").fetchall() == [(0, 0)]
    share = process.renew(found_requests=300.0, found_tokens=300_000.0)
    assert (share.endpoint_requests_per_minute, share.endpoint_tokens_per_minute) == (300, 300_000)


def test_what_is_left_of_a_use_long_ago_does_not_belittle_what_was_found(connection: psycopg.Connection) -> None:
    process = MadeUpProcess(connection)
    process.renew(accepted=1, accepted_tokens=1_000)
    connection.execute("UPDATE limit_leases SET used_requests = 0.02, used_tokens = 20")

    share = process.renew(found_requests=300.0, found_tokens=300_000.0)
    assert (share.endpoint_requests_per_minute, share.endpoint_tokens_per_minute) == (300, 300_000)


@pytest.mark.parametrize(
    ("known", "age", "kept"),
    [
        ({"found_requests": 0.2, "found_tokens": 200.0}, "61 seconds", (None, None)),
        ({"found_requests": 0.2, "found_tokens": 200.0}, "50 seconds", (0.2, 200)),
        ({"found_requests": 2.0, "found_tokens": 2_000.0}, "61 seconds", (2, 2_000)),
        ({"known_requests": 0.2, "known_tokens": 200.0}, "61 seconds", (0.2, 200)),
    ],
)
def test_less_than_a_request_a_minute_is_soon_forgotten_if_the_endpoint_does_not_say_so(
    connection: psycopg.Connection, known: dict[str, float], age: str, kept: tuple[float | None, float | None]
) -> None:
    former = MadeUpProcess(connection)
    former.renew(accepted=1, accepted_tokens=1_000)
    connection.execute("UPDATE limit_leases SET used_requests = 0, used_tokens = 0")
    former.renew(10, 0, hears=True, **known)
    former.die()
    connection.execute("UPDATE endpoint_limits SET known_at = known_at - CAST(%s AS interval)", [age])

    share = MadeUpProcess(connection).renew()
    assert (share.endpoint_requests_per_minute, share.endpoint_tokens_per_minute) == kept


def test_a_closure_that_one_heard_of_is_kept_by_all(connection: psycopg.Connection) -> None:
    first, second, newcomer = some(connection, 3)
    even_out((first, 10), (second, 10))
    first.renew(closed_for_s=30.0, closed_because="Retry-After")

    for share in (second.renew(), newcomer.renew(), first.renew()):
        assert 29 < share.closed_for_s <= 30
        assert share.closed_because == "Retry-After"
    assert second.renew(closed_for_s=10.0).closed_for_s > 29, "the longer one counts"
    assert second.renew(closed_for_s=60.0).closed_for_s > 59


def test_a_closure_ends_by_itself(connection: psycopg.Connection) -> None:
    process = MadeUpProcess(connection)
    process.renew(closed_for_s=30.0, closed_because="Retry-After")
    connection.execute("UPDATE endpoint_limits SET closed_until = clock_timestamp()")

    share = process.renew()
    assert (share.closed_for_s, share.closed_because) == (0, None)


def test_who_comes_during_a_long_closure_tries_for_himself_and_lifts_it_when_he_is_let_in(
    connection: psycopg.Connection,
) -> None:
    there, newcomer = some(connection, 2)
    there.renew(closed_for_s=86_400.0, closed_because="Retry-After")
    assert there.renew().closed_for_s > 86_000

    assert newcomer.renew().closed_for_s == 0
    assert there.renew(accepted=1).closed_for_s > 86_000, "what it had in flight says nothing"
    newcomer.renew(accepted=1)
    assert there.renew().closed_for_s == 0


def test_a_clock_that_is_set_back_lets_no_dead_process_live_on(connection: psycopg.Connection) -> None:
    dead, alive = some(connection, 2)
    even_out((dead, 10), (alive, 10))
    connection.execute("UPDATE limit_leases SET expires_at = expires_at + interval '1 hour'")
    alive.renew()

    longest = connection.execute("SELECT max(expires_at) <= clock_timestamp() + interval '5 s' FROM limit_leases")
    assert longest.fetchone() == (True,)


def even_out_beside(waiter: MadeUpProcess, demand: int, *nights: tuple[MadeUpProcess, int]) -> None:
    for _ in range(UNTIL_EVEN + 1):
        for night, asked in nights:
            night.renew(asked)
        waiter.renew(demand, precedence=True)


def test_what_is_asked_for_on_demand_has_what_it_needs_before_any_night(connection: psycopg.Connection) -> None:
    nights, waiter = some(connection, 8), MadeUpProcess(connection)
    nights[0].renew(1_000, accepted=1, known_requests=60.0)
    even_out_beside(waiter, 1, *((night, 1_000) for night in nights))

    need = (12 * 1 + 1.2) / 60
    assert need > 1 / 9, "without precedence it would have less"
    assert waiter.share.portion == pytest.approx(need, abs=0.01)
    assert portions(*nights) == pytest.approx([(1 - need) / 8] * 8, abs=0.01)


def test_what_is_asked_for_on_demand_leaves_the_night_half_of_the_whole(connection: psycopg.Connection) -> None:
    (night,), waiters = some(connection, 1), some(connection, 3)
    night.renew(1_000, accepted=1, known_requests=600.0)
    for _ in range(UNTIL_EVEN + 1):
        night.renew(1_000)
        for waiter in waiters:
            waiter.renew(1_000, precedence=True)

    assert night.share.portion == pytest.approx(0.5, abs=0.01)
    assert portions(*waiters) == pytest.approx([0.5 / 3] * 3, abs=0.01)


def test_on_demand_has_all_that_a_night_leaves_and_a_night_all_that_is_not_asked_for(
    connection: psycopg.Connection,
) -> None:
    (night,), waiter = some(connection, 1), MadeUpProcess(connection)
    night.renew(1, accepted=1, known_requests=600.0)
    even_out_beside(waiter, 1_000, (night, 1))
    assert waiter.share.portion > 0.9

    even_out_beside(waiter, 0, (night, 1_000))
    assert night.share.portion > 0.9


@given(nights=st.lists(st.integers(0, 3_000), max_size=4), waiters=st.lists(st.integers(0, 3_000), max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_with_precedence_too_the_whole_is_used_and_never_more(
    module_connection: psycopg.Connection, nights: list[int], waiters: list[int]
) -> None:
    module_connection.execute("DELETE FROM limit_leases; UPDATE endpoint_limits SET requests_per_minute = 600")
    processes = some(module_connection, len(nights) + len(waiters))
    for _ in range(UNTIL_EVEN + 1):
        for number, (process, demand) in enumerate(zip(processes, [*nights, *waiters], strict=True)):
            process.renew(demand, precedence=number >= len(nights))
            held = module_connection.execute("SELECT coalesce(sum(held), 0) FROM limit_leases").fetchone()
            assert held is not None
            assert held[0] <= 1 + LITTLE
    if processes:
        assert sum(portions(*processes)) == pytest.approx(1, abs=0.01)

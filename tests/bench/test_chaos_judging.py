"""The checker of chaos imports nothing of what it judges. It finds each broken promise, and none that was kept."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from bench.chaos.evidence import (
    Acknowledged,
    Call,
    Evidence,
    Request,
    Row,
    Run,
    Sent,
    Slate,
    acknowledged_of,
    request_of,
)
from bench.chaos.judging import judge
from bench.chaos.names import product_id, product_name
from bench.chaos.readers import Line, Looks, complaint
from bench.chaos.shop import SLATE_SIZE

ROOT = Path(__file__).parents[2]
RUN, OTHER_RUN = UUID(int=1), UUID(int=2)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
OFFERED = tuple(product_name(1, product_id("c1", number)) for number in range(1, 21))


def sent(number: int, score: float | None = 0.5) -> Sent:
    return Sent(OFFERED[number - 1], score)


def row(rank: int, number: int | None = None, *, attempt: int = 1, seconds: float = 1) -> Row:
    product = product_id("c1", number or rank)
    at = NOON + timedelta(seconds=seconds)
    return Row(RUN, "c1", rank, product, product_name(1, product), 0.5, attempt, at)


def told(written: Row) -> Acknowledged:
    return Acknowledged(
        written.run_id,
        written.customer_id,
        written.rank,
        written.product_id,
        written.product_name,
        written.relevance_score,
        written.committed_at,
    )


def call(attempt: int, request: str | None, ending: str, *, lease: int = 1, seconds: float = 0) -> Call:
    begun = NOON + timedelta(seconds=seconds)
    return Call(RUN, "c1", attempt, request, ending, lease, begun, begun + timedelta(seconds=5))


def request(name: str, *objects: Sent, seconds: float = 0) -> Request:
    return Request(name, NOON.timestamp() + seconds, OFFERED, objects)


@pytest.fixture
def sound() -> Evidence:
    """Two rows and a refused object of a process that was killed, then the third row: a slate of three, complete."""
    rows = (row(1), row(2), row(3, attempt=2, seconds=11))
    return Evidence(
        requests=(
            request("killed", sent(1), sent(2), sent(9, None), sent(3), sent(4)),
            request("good", sent(3), seconds=10),
        ),
        acknowledged=(told(rows[0]), told(rows[2])),
        customers=("c1",),
        runs=(Run(RUN, "finished"),),
        slates=(Slate(RUN, "c1", "complete", 3),),
        rows=rows,
        rejections={(RUN, "c1", 1): 1},
        calls=(call(1, None, "died"), call(2, "good", "complete")),
    )


def test_where_all_is_well_nothing_is_found_and_everything_is_counted(sound: Evidence) -> None:
    verdict = judge(sound)
    assert verdict.findings == ()
    assert (verdict.sent, verdict.rows, verdict.rejections, verdict.unsent) == (6, 3, 1, 2)
    assert verdict.acknowledged == 2


Change = Callable[[Evidence], Evidence]


def without_first_row(sound: Evidence) -> Evidence:
    return replace(sound, rows=sound.rows[1:])


def in_order(*rows: Row) -> Change:
    """The rows of the slate instead, none of them acknowledged."""
    return lambda sound: replace(sound, rows=rows, acknowledged=())


BROKEN: dict[str, tuple[Change, str]] = {
    "an acknowledged row is not there": (without_first_row, "lost"),
    "a rank is acknowledged again": (
        lambda sound: replace(
            sound, acknowledged=(replace(sound.acknowledged[0], committed_at=NOON), *sound.acknowledged)
        ),
        "lost",
    ),
    "a rank is there twice": (lambda sound: replace(sound, rows=(*sound.rows, row(2, 4))), "doubled"),
    "a product is there twice": (lambda sound: replace(sound, rows=(*sound.rows, row(4, 2))), "doubled"),
    "a row is acknowledged twice": (
        lambda sound: replace(sound, acknowledged=(*sound.acknowledged, sound.acknowledged[0])),
        "doubled",
    ),
    "a row has another rank than was acknowledged": (
        lambda sound: replace(sound, rows=(replace(row(1), rank=4), *sound.rows[1:])),
        "changed",
    ),
    "a row has another time than was acknowledged": (
        lambda sound: replace(sound, rows=(replace(row(1), committed_at=NOON), *sound.rows[1:])),
        "changed",
    ),
    "a row has a score that was never sent": (
        lambda sound: replace(sound, rows=(sound.rows[0], replace(row(2), relevance_score=0.6), sound.rows[2])),
        "changed",
    ),
    "a row was never sent": (in_order(row(1), row(2), row(3, 17, attempt=2, seconds=11)), "invented"),
    "a row was sent without a score": (in_order(row(1), row(2), row(3, 9, attempt=2, seconds=11)), "invented"),
    "a row is another customer's": (
        lambda sound: replace(sound, rows=(sound.rows[0], replace(row(2), customer_id="c2"), sound.rows[2])),
        "invented",
    ),
    "a row is another run's": (
        lambda sound: replace(sound, rows=(*sound.rows, replace(row(4), run_id=OTHER_RUN))),
        "invented",
    ),
    "a row has a name that no product had": (
        lambda sound: replace(sound, rows=(sound.rows[0], replace(row(2), product_name="Lamp"), sound.rows[2])),
        "invented",
    ),
    "a rank is missing": (in_order(row(1), row(2), replace(row(4, 3, attempt=2, seconds=11))), "holes"),
    "an attempt writes after a later one has begun": (in_order(row(1), row(2, seconds=12), row(3, attempt=2)), "stale"),
    "an attempt that ended well lost an object": (
        lambda sound: replace(sound, requests=(sound.requests[0], request("good", sent(5), sent(3), seconds=10))),
        "unaccounted",
    ),
    "more was recorded than was sent": (
        lambda sound: replace(sound, rejections={(RUN, "c1", 1): 4}),
        "unaccounted",
    ),
    "a request is no attempt of the ledger": (
        lambda sound: replace(sound, requests=(*sound.requests, request("unknown", sent(7)))),
        "unaccounted",
    ),
    "a customer has no slate": (lambda sound: replace(sound, slates=(), customers=("c1",)), "not_terminal"),
    "a slate is unfinished": (
        lambda sound: replace(sound, slates=(Slate(RUN, "c1", "streaming", 3),)),
        "not_terminal",
    ),
    "a complete slate is too short": (
        lambda sound: replace(sound, slates=(Slate(RUN, "c1", "complete", 4),)),
        "not_terminal",
    ),
    "a short slate is whole": (lambda sound: replace(sound, slates=(Slate(RUN, "c1", "short", 3),)), "not_terminal"),
    "a failed slate has rows": (lambda sound: replace(sound, slates=(Slate(RUN, "c1", "failed", 3),)), "not_terminal"),
    "a run has not ended": (lambda sound: replace(sound, runs=(Run(RUN, "running"),)), "not_terminal"),
    "a finished run has a slate that is not complete": (
        lambda sound: replace(sound, slates=(Slate(RUN, "c1", "short", 4),)),
        "not_terminal",
    ),
    "a valid object became a rejection": (
        lambda sound: replace(
            in_order(row(1), row(2, 3, attempt=2, seconds=11))(sound), rejections={(RUN, "c1", 1): 2}
        ),
        "unaccounted",
    ),
    "rows are in another order than was sent": (
        in_order(row(1, 2), row(2, 1), row(3, attempt=2, seconds=11)),
        "unaccounted",
    ),
    "an attempt that was given up left out an object": (
        lambda sound: replace(
            in_order(row(1), row(2, 3), row(3, 4, attempt=2, seconds=11))(sound),
            requests=(sound.requests[0], request("good", sent(4), seconds=10)),
        ),
        "unaccounted",
    ),
    "an attempt that waited for too long read nothing of what had come": (
        lambda sound: replace(
            sound,
            requests=(sound.requests[0], request("good", sent(3), *map(sent, range(5, 15)), seconds=10)),
            slates=(Slate(RUN, "c1", "short", 10),),
            calls=(sound.calls[0], call(2, "good", "idle")),
        ),
        "unaccounted",
    ),
    "a slate was given up and the ranker never asked": (
        lambda sound: replace(sound, slates=(*sound.slates, Slate(RUN, "c2", "failed", 3))),
        "unserved",
    ),
    "a slate was given up while its last attempt had no end": (
        lambda sound: replace(
            sound,
            rows=(),
            rejections={},
            slates=(Slate(RUN, "c1", "failed", 3),),
            calls=(call(1, None, "died"), call(2, "good", "died")),
        ),
        "unserved",
    ),
    "most slates are not complete": (
        lambda sound: replace(sound, slates=[Slate(RUN, "c1", "short", 4)] * 10),
        "unserved",
    ),
    "there is nothing to judge": (lambda _: Evidence(), "unproven"),
    "nothing was acknowledged": (lambda sound: replace(sound, acknowledged=()), "unproven"),
    "a reader saw half a slate": (lambda sound: replace(sound, torn=("half",)), "torn"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_promise_is_found(sound: Evidence, what: str) -> None:
    change, kind = BROKEN[what]
    assert judge(change(sound)).counts[kind] >= 1


def test_what_was_sent_to_an_attempt_that_was_taken_over_may_be_unrecorded(sound: Evidence) -> None:
    verdict = judge(replace(sound, calls=(call(1, "killed", "taken_over"), call(2, "good", "complete"))))
    assert (verdict.findings, verdict.unsent) == ((), 2)


def test_an_attempt_that_waited_for_too_long_in_a_process_that_was_stopped_may_leave_many_objects(
    sound: Evidence,
) -> None:
    many = request("killed", sent(1), sent(2), sent(9, None), *map(sent, range(10, 20)))
    stopped = replace(sound, requests=(many, sound.requests[1]))
    alone = replace(stopped, calls=(call(1, "killed", "idle"), call(2, "good", "complete", seconds=10)))
    relieved = replace(stopped, calls=(call(1, "killed", "idle"), call(2, "good", "complete", lease=2, seconds=4)))
    assert judge(alone).counts["unaccounted"] == 10
    assert judge(relieved).findings == ()


def test_what_comes_as_an_attempt_times_out_may_be_unrecorded(sound: Evidence) -> None:
    verdict = judge(replace(sound, calls=(call(1, "killed", "overdue"), call(2, "good", "complete", seconds=10))))
    assert (verdict.findings, verdict.unsent) == ((), 2)


def test_an_object_that_came_before_is_a_rejection(sound: Evidence) -> None:
    requests = (request("killed", sent(1), sent(1), sent(2), sent(3)), sound.requests[1])
    assert judge(replace(sound, requests=requests)).findings == ()


def test_an_attempt_that_gave_up_before_it_knew_its_request_may_have_been_sent_objects(sound: Evidence) -> None:
    verdict = judge(replace(sound, calls=(call(1, None, "idle"), call(2, "good", "complete"))))
    assert (verdict.findings, verdict.unsent) == ((), 2)


def test_behind_the_object_that_made_the_slate_whole_nobody_reads_on(sound: Evidence) -> None:
    verdict = judge(replace(sound, requests=(sound.requests[0], request("good", sent(3), sent(3), seconds=10))))
    assert (verdict.findings, verdict.unsent) == ((), 3)


def test_a_short_slate_and_a_failed_one_are_last_states(sound: Evidence) -> None:
    verdict = judge(
        replace(
            sound,
            customers=("c1", "c2"),
            requests=(*sound.requests, replace(request("vain"), offered=(product_name(1, "c2-p1"),))),
            runs=(Run(RUN, "failed"),),
            slates=(Slate(RUN, "c1", "short", 4), Slate(RUN, "c2", "failed", 4)),
            calls=(*sound.calls, replace(call(1, "vain", "cut"), customer_id="c2")),
        )
    )
    assert verdict.findings == ()


def test_the_rankers_log_is_read_as_it_writes_it() -> None:
    candidates = {"1": OFFERED[0], "2": OFFERED[1]}
    texts = ['{"i":2,"s":92}', '{"i":1,"s":"40"}', '{"i":1,"s":NaN}', '{"i":1}', '{"i":1000002,"s":3}']
    document = {
        "request_id": "one",
        "received_at": 12.5,
        "candidates": candidates,
        "objects": [{"text": text} for text in texts],
    }
    objects = (
        Sent(OFFERED[1], 0.92),
        Sent(OFFERED[0], 0.4),
        Sent(OFFERED[0], None),
        Sent(OFFERED[0], None),
        Sent(None, 0.03),
    )
    assert request_of(json.loads(json.dumps(document))) == Request("one", 12.5, OFFERED[:2], objects)


def test_an_acknowledgement_is_read_as_the_driver_writes_it() -> None:
    acknowledged = told(row(3))
    document = {
        "run_id": str(RUN),
        "customer_id": "c1",
        "rank": 3,
        "product_id": "c1-p3",
        "product_name": "r1 c1-p3",
        "relevance_score": 0.5,
        "committed_at": acknowledged.committed_at.isoformat(),
    }
    assert acknowledged_of(document) == acknowledged


def seen(
    *ranks: int, run: str = "one", mark: int = 1, state: str | None = "complete", customer: str = "c1"
) -> list[Line]:
    return [(run, rank, product_name(mark, product_id(customer, rank)), state) for rank in ranks]


WHOLE = range(1, SLATE_SIZE + 1)


def test_a_reader_takes_a_whole_slate_or_none_for_whole() -> None:
    assert complaint("c1", seen(*WHOLE), is_owed=True) is None
    assert complaint("c1", []) is None


def test_a_reader_misses_a_slate_that_was_there_unless_its_run_was_rolled_back() -> None:
    looks = Looks(seen={"c1": {"one"}})
    assert looks.is_owed("c1")
    assert not looks.is_owed("c2")
    assert "gone" in (complaint("c1", [], is_owed=True) or "")
    looks.withdrawals.begin("one")
    assert not looks.is_owed("c1")
    looks.withdrawals.end("one")
    assert looks.is_owed("c1")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (seen(*WHOLE[:5]) + seen(*WHOLE[5:], run="two"), "more than one run"),
        (seen(*WHOLE[:5]) + seen(*WHOLE[5:], mark=2), "more than one run"),
        (seen(*WHOLE[:5]) + seen(*WHOLE[5:], customer="c7"), "another customer"),
        (seen(*WHOLE, customer="c2"), "another customer"),
        ([("one", 1, "Lamp", "complete")], "another customer"),
        (seen(*WHOLE, state="streaming"), "not complete"),
        (seen(*WHOLE, state=None), "not complete"),
        (seen(*WHOLE[:-1]), "ranks"),
        (seen(*WHOLE[:-2], WHOLE[-1], WHOLE[-1] + 1), "ranks"),
    ],
)
def test_a_reader_notices_a_torn_slate(lines: list[Line], reason: str) -> None:
    assert reason in (complaint("c1", lines) or "")


def test_the_checker_imports_nothing_of_what_it_judges() -> None:
    found = (
        "import bench.chaos.checker, sys; "
        "print([name for name in sys.modules if name.split('.')[0] in {'pipeline', 'flows'}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", found], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"

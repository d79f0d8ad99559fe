"""Chaos in its short form: the pipeline is killed, its database crashed, and every row is in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos.__main__ import carry_out
from bench.chaos.door import Moment
from bench.chaos.findings import KINDS
from bench.chaos.plan import Blow, Plan, Strike, short_plan, thorough_plan

ROOT = Path(__file__).parents[2]
SEED = 5
BROKEN = tuple("stale_rows" if kind == "stale" else kind for kind in KINDS)

# By themselves both take half a minute; a busy machine may need far longer.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the bench needs Linux"),
]


def number(plan: Plan, *blows: Blow) -> int:
    return sum(strike.blow in blows for strike in plan.strikes)


def test_the_same_seed_draws_the_same_strikes() -> None:
    assert thorough_plan(SEED) == thorough_plan(SEED)
    assert thorough_plan(SEED).strikes != thorough_plan(SEED + 1).strikes


def test_a_thorough_plan_has_every_blow_often_enough() -> None:
    plan = thorough_plan(SEED)
    assert number(plan, Blow.KILL, Blow.KILL_COMMAND) >= 50
    assert number(plan, Blow.CRASH) >= 10
    assert number(plan, Blow.DROP) >= 20
    assert number(plan, Blow.STALE) >= 1
    assert {strike.moment for strike in plan.strikes if strike.blow is Blow.KILL} == {None, *Moment}


def test_nothing_is_lost_doubled_changed_or_invented_in_a_storm(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.chaos", "--short", f"--seed={SEED}", f"--keep={tmp_path / 'kept'}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    plan = short_plan(SEED)
    assert found["kills"] >= number(plan, Blow.KILL)
    assert found["postgres_crashes"] == number(plan, Blow.CRASH)
    assert found["dropped"] == number(plan, Blow.DROP)
    assert found["stale"] == number(plan, Blow.STALE)
    assert {key: found[key] for key in BROKEN} == dict.fromkeys(BROKEN, 0)
    assert found["sent"] == found["rows"] + found["rejections"] + found["unsent"]
    assert found["rows"] >= found["acknowledged"] > 0
    assert found["reads"] > 0
    assert found["switches"] >= 2  # a rollback and a publication


@pytest.mark.parametrize(
    ("sabotage", "blow", "moment"),
    [("swallow-error", Blow.DROP, Moment.WRITE_HELD_BACK), ("early-ack", Blow.CRASH, None)],
)
def test_a_writer_that_acknowledges_what_is_not_durable_is_found_out(
    tmp_path: Path, sabotage: str, blow: Blow, moment: Moment | None
) -> None:
    strikes = tuple(Strike(blow, moment, writes, 0.05) for writes in (5, 3))
    plan = Plan(SEED, customers=20, tokens_per_second=200, patience_s=200, strikes=strikes)
    report, verdict = carry_out(plan, tmp_path, sabotage)
    assert report.blows[blow] == 2
    assert verdict.counts["lost"] > 0

"""Builds what candidates are looked up in, step by step, and puts it into service when all of it is there.

Each step is a file of `pipeline/sql/`, in this order: numbers, histories, products; baskets, buyers, neighbours; words,
newcomers. Whatever ends a build, the one in service stays there, and what was made of this one is dropped: now, or by
the next build where this process was killed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias, cast

import psycopg
from psycopg.rows import dict_row

from pipeline.candidates.builds import Build, Method, build_of
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.scaling import choose_method, neighbours_by_scipy, require_scale
from pipeline.database import HISTORIES_LOCK, open_connection, translate
from pipeline.errors import (
    BuildFailedError,
    DatabaseError,
    InputError,
    RecstreamError,
    RunConflictError,
    first_line,
)
from pipeline.upkeep import execute

BuildMethod: TypeAlias = Literal["auto", "sql", "scipy"]
Tell: TypeAlias = Callable[[str], None]

_ONE_BUILD: Final = "recstream: one build of candidates at a time"
_PAIRS_OF_PART: Final = 25_000_000
_MOST_NEWCOMERS: Final = 50_000
_SELLERS_OF_WORD: Final = 30
_TRIES_TO_DROP: Final = 30  # each waits for a part of a second
_MISSING_RIGHT: Final = """
SELECT CASE WHEN NOT has_database_privilege(current_database(), 'TEMPORARY')
            THEN format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)
       END
"""
_DROPPED: Final = "its process ended before it was whole"
# Compiling to machine code costs more here than it gains; memory is for one sort, or for one product's pairs. A plan is
# made for the values at hand: partitions of other builds are not even locked.
_SESSION: Final = (
    "SET jit = off; SET work_mem = '64MB'; SET temp_buffers = '64MB'; SET plan_cache_mode = force_custom_plan;"
    "SET application_name = 'recstream candidates'"
)


def build_candidates(
    url: str,
    recipe: CandidateRecipe,
    *,
    as_of: datetime | None = None,
    method: BuildMethod = "auto",
    trial: bool = False,
    tell: Tell = lambda _: None,
) -> Build:
    """Build from all that happened up to `as_of`, that moment included; it is in service when this returns.

    Without `as_of` it is now, or the newest event of a shop whose events end earlier. A build on trial is never in
    service: who made it looks candidates up in it, and drops it. `tell` hears of each step when it is done.

    Raises:
        ConfigurationError: scipy is wanted and not installed.
        InputError: `as_of` is in the future.
        RunConflictError: candidates are being built by another.
        DatabaseError: the server cannot be reached, or refused a step; the build in service stays there.
        BuildFailedError: a step failed otherwise, as for want of memory; the same.
    """
    if method == "scipy":
        require_scale()
    with _open_session(url) as connection:
        _require_possible(connection, as_of)
        _clear_up(connection)
        building = _begin(connection, recipe, as_of, method, trial=trial)
        with _given_up_on_failure(connection, url, building.build_id):
            _Building(connection, building, method, tell).carry_out()
        for build_id in _superseded(connection):
            _drop(connection, build_id)
        return _read(connection, building.build_id)


def drop_build(url: str, build_id: int) -> None:
    """Drop what was made on trial, or is not needed any more.

    Raises:
        DatabaseError: it is in service, somebody reads it, or the server cannot be reached.
    """
    with open_connection(url, autocommit=True) as connection:
        for _ in range(_TRIES_TO_DROP):
            with suppress(psycopg.errors.LockNotAvailable):
                connection.execute("SELECT recstream_drop_build(%s)", [build_id])
                return
        raise DatabaseError(f"build {build_id} is read by a long transaction: the next build drops what is left of it")


def drop_dead_builds(url: str) -> int:
    """Drop what builds left whose processes died; returns how many they were. A build that goes on is left alone.

    Raises:
        DatabaseError: the server cannot be reached, or refused a statement.
    """
    with open_connection(url, autocommit=True) as connection:
        begun = _one(connection.execute("SELECT count(*) FROM candidate_builds WHERE state = 'building'"))
    if not begun:
        return 0  # the lock is not even asked for: a night that begins now might want it
    try:
        with _open_session(url) as connection:
            return _clear_up(connection)
    except RunConflictError:
        return 0  # somebody builds, and has cleared up before


@contextmanager
def _open_session(url: str) -> Iterator[psycopg.Connection]:
    with open_connection(url, autocommit=True) as connection:
        connection.execute(_SESSION)
        taken = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [_ONE_BUILD]).fetchone()
        if taken != (True,):
            raise RunConflictError(
                "candidates are being built by another process: wait for it (`recstream candidates list` shows it)"
            )
        try:
            yield connection
        finally:
            if not connection.closed:
                # The server takes a moment to see that a connection has ended; the next build may ask within it.
                with suppress(psycopg.Error):  # it went with the connection
                    connection.execute("SELECT pg_advisory_unlock_all()")


def _require_possible(connection: psycopg.Connection, as_of: datetime | None) -> None:
    if as_of is not None and _one(connection.execute("SELECT %s > clock_timestamp()", [as_of])):
        raise InputError(f"candidates cannot be built as of {as_of:%Y-%m-%d %H:%M %Z}: that is in the future")
    missing = _one(connection.execute(_MISSING_RIGHT))
    if missing is not None:
        raise DatabaseError(
            f"candidates could not be built: a build works with temporary tables, and may make none here; have an "
            f"administrator run {missing}"
        )


def _clear_up(connection: psycopg.Connection) -> int:
    """Drop what builds left whose processes died, and say how many: nobody else builds while we hold the lock."""
    dead = connection.execute("SELECT build_id FROM candidate_builds WHERE state = 'building'").fetchall()
    for (build_id,) in dead:
        _fail(connection, build_id, _DROPPED)
    return len(dead)


def _begin(
    connection: psycopg.Connection, recipe: CandidateRecipe, as_of: datetime | None, method: BuildMethod, *, trial: bool
) -> Build:
    """A new build in the ledger, with empty partitions."""
    moment = as_of if as_of is not None else _one(execute(connection, "as_of"))
    said: Method = "sql" if method == "auto" else method
    parameters = {"trial": trial, "method": said, "as_of": moment, "recipe": recipe.model_dump_json()}
    with connection.transaction():
        build_id = cast(int, _one(execute(connection, "candidates_begin", parameters)))
        connection.execute("SELECT recstream_prepare_build(%s)", [build_id])
    return _read(connection, build_id)


@contextmanager
def _given_up_on_failure(connection: psycopg.Connection, url: str, build_id: int) -> Iterator[None]:
    """Whatever goes wrong inside, nothing of the build is left and the ledger says why."""
    try:
        yield
    except BaseException as error:
        said = _why(error)
        with suppress(psycopg.Error):  # the connection is gone: the next build clears up
            _fail(connection, build_id, said)
        if isinstance(error, psycopg.Error):
            kind = type(translate(error, url))
            raise kind(f"candidates could not be built: {said}; the build in service stays") from error
        if isinstance(error, Exception) and not isinstance(error, RecstreamError):
            raise BuildFailedError(f"candidates could not be built: {said}; the build in service stays") from error
        raise


def _why(error: BaseException) -> str:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return f"{first_line(error)} (raise statement_timeout for recstream's login, or leave nights more time)"
    if isinstance(error, psycopg.errors.DiskFull | psycopg.errors.ConfigurationLimitExceeded):
        return f"{first_line(error)} (make room, or raise the limit)"
    if isinstance(error, psycopg.Error | RecstreamError):
        return first_line(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {first_line(error)} (make room, or set candidate_method to sql)"
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {first_line(error)}"
    return f"interrupted ({type(error).__name__})"


def _fail(connection: psycopg.Connection, build_id: int, reason: str) -> None:
    connection.execute(
        "UPDATE candidate_builds SET state = 'failed', reason = %s, ended_at = clock_timestamp() WHERE build_id = %s",
        [reason, build_id],
    )
    _drop(connection, build_id)


def _drop(connection: psycopg.Connection, build_id: int) -> None:
    """Drop it now, unless it was taken into service meanwhile; leave it to the next build where it is read for long."""
    with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.ObjectInUse):
        connection.execute("SELECT recstream_drop_build(%s)", [build_id])


def _superseded(connection: psycopg.Connection) -> list[int]:
    return [build_id for (build_id,) in execute(connection, "candidates_superseded").fetchall()]


def _read(connection: psycopg.Connection, build_id: int) -> Build:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM candidate_builds WHERE build_id = %s", [build_id]).fetchone()
    assert row is not None  # noqa: S101 - the row was written by this session
    return build_of(row)


def _one(cursor: psycopg.Cursor[tuple[object, ...]]) -> object:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - each of these statements gives one row
    return row[0]


@dataclass(frozen=True, slots=True)
class _Building:
    """One build on its way, on the session that has its working tables."""

    connection: psycopg.Connection
    build: Build
    method: BuildMethod
    tell: Tell

    def carry_out(self) -> None:
        """All steps, up to the moment at which the build is in service."""
        began = time.monotonic()
        execute(self.connection, "candidates_working_tables")
        self._read_purchases()
        method = self._find_neighbours()
        self._find_newcomers()
        self._analyze()
        self._run("candidates_finish", method=method)
        self.tell(f"build {self.build.build_id}: whole after {time.monotonic() - began:.1f} s")

    def _read_purchases(self) -> None:
        with self.connection.transaction():
            # who erases a customer waits for us, or we for him: he is in no history that is written afterwards
            self.connection.execute("SELECT pg_advisory_xact_lock_shared(hashtext(%s))", [HISTORIES_LOCK])
            products = self._run("candidates_numbers", as_of=self.build.as_of)
            self.connection.execute("ANALYZE recstream_numbers")
            customers = self._run("candidates_histories", as_of=self.build.as_of)
            self._run("candidates_products", days=self.build.recipe.popularity_days)
        self._analyze()
        self.tell(
            f"{customers:,} customers with purchases up to {self.build.as_of:%Y-%m-%d %H:%M %Z} that they did not "
            f"return, {products:,} products"
        )

    def _find_neighbours(self) -> Method:
        purchases = self._purchases()
        method = choose_method(self.method, purchases, self.tell)
        if not purchases:
            self.tell("nobody has purchased anything yet: popularity serves")
        elif method == "scipy":
            neighbours_by_scipy(self.connection, self.build, self.build.recipe)
        else:
            self._neighbours_by_statements()
        return method

    def _purchases(self) -> int:
        counted = "SELECT coalesce(sum(cardinality(numbers)), 0) FROM candidate_histories WHERE build_id = %s"
        return cast(int, _one(self.connection.execute(counted, [self.build.build_id])))

    def _neighbours_by_statements(self) -> None:
        recipe = self.build.recipe
        self._run("candidates_baskets", basket_exponent=recipe.basket_exponent, history=recipe.history)
        self.connection.execute("ANALYZE recstream_baskets")
        self._run("candidates_buyers", least_shared=recipe.least_shared)
        self.connection.execute("ANALYZE recstream_buyers")
        parts = self._parts()
        found = 0
        for part in range(parts):
            found += self._neighbours_of_part(part, parts)
            self.tell(f"neighbours: part {part + 1} of {parts}, {found:,} products have some")

    def _parts(self) -> int:
        """So many that each has its share of the work: a statement is short enough to be watched, and to be ended."""
        counted = "SELECT coalesce(sum(power(cardinality(numbers), 2)), 0)::bigint FROM recstream_baskets"
        return 1 + cast(int, _one(self.connection.execute(counted))) // _PAIRS_OF_PART

    def _neighbours_of_part(self, part: int, parts: int) -> int:
        recipe = self.build.recipe
        return self._run(
            "candidates_neighbours",
            part=part,
            parts=parts,
            neighbours=recipe.neighbours,
            least_shared=recipe.least_shared,
            popularity_offset=recipe.popularity_offset,
            popularity_exponent=recipe.popularity_exponent,
            source_exponent=recipe.source_exponent,
            target_exponent=recipe.target_exponent,
        )

    def _find_newcomers(self) -> None:
        recipe = self.build.recipe
        self._run(
            "candidates_words",
            newcomer_buyers=recipe.newcomer_buyers,
            most_newcomers=_MOST_NEWCOMERS,
            sellers_of_word=_SELLERS_OF_WORD,
        )
        self.connection.execute("ANALYZE recstream_words")
        found = self._run("candidates_newcomers", newcomers=recipe.newcomers)
        self.tell(f"newcomers: {found:,} products lead to some")

    def _analyze(self) -> None:
        self.connection.execute("SELECT recstream_analyze_build(%s)", [self.build.build_id])

    def _run(self, name: str, **parameters: object) -> int:
        """Run one statement for this build, and say how many rows it made."""
        return execute(self.connection, name, {"build_id": self.build.build_id, **parameters}).rowcount

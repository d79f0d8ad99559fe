"""What is done again and what is not: by what is behind the error, for as long as patience lasts."""

import pytest
from psycopg import OperationalError
from psycopg.errors import lookup

from pipeline import persistence
from pipeline.errors import DatabaseError, DatabaseUnavailableError, SlateTakenOverError
from pipeline.persistence import persistent


class Transaction:
    """Fails with these errors, one after another, and succeeds then."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.tries = 0

    async def __call__(self, words: str) -> str:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return words


def caused(error: DatabaseError, *causes: Exception) -> DatabaseError:
    """The error as it is when one was raised from another."""
    last: BaseException = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


async def test_what_may_pass_is_done_again_until_it_succeeds() -> None:
    gone = caused(DatabaseUnavailableError("gone"), OperationalError("connection refused"))
    deadlock = caused(DatabaseError("deadlock"), RuntimeError("of the library"), lookup("40P01")())
    transaction = Transaction(gone, deadlock)

    assert await persistent(transaction)("done") == "done"
    assert transaction.tries == 3


@pytest.mark.parametrize(
    "error",
    [
        caused(DatabaseError("no such table"), lookup("42P01")()),
        DatabaseUnavailableError("no connection became free"),
        SlateTakenOverError("opened by another"),
        ValueError("a defect"),
    ],
    ids=str,
)
async def test_what_will_not_pass_is_raised_at_once(error: Exception) -> None:
    transaction = Transaction(error)

    with pytest.raises(type(error)) as raised:
        await persistent(transaction)("done")
    assert raised.value is error
    assert transaction.tries == 1


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PATIENCE_S", 0.2)
    transaction = Transaction(*(caused(DatabaseUnavailableError("gone"), OperationalError()) for _ in range(1000)))

    with pytest.raises(DatabaseUnavailableError, match="gone"):
        await persistent(transaction)("done")
    assert 1 < transaction.tries < 1000

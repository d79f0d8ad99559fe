"""Which of Postgres's errors are worth another try: exactly those that are gone when the server is well again."""

import psycopg
import pytest

from pipeline.database import is_passing, may_pass


@pytest.mark.parametrize(
    "sqlstate",
    [
        "08000",  # connection exception
        "08006",  # connection failure
        "08P01",  # protocol violation: what stands between has lost the thread
        "40001",  # serialization failure
        "40003",  # nobody knows whether the statement was completed
        "40P01",  # deadlock
        "53100",  # disk full
        "53200",  # out of memory
        "53300",  # too many clients
        "55P03",  # lock time-out
        "57014",  # cancelled, as by a statement time-out
        "57P01",  # the administrator stops the server, or ends the connection
        "57P02",  # another backend crashed
        "57P03",  # starting up, or in recovery
        "57P05",  # idle for too long
    ],
)
def test_what_passes_by_itself_is_tried_again(sqlstate: str) -> None:
    assert is_passing(sqlstate)
    assert may_pass(psycopg.errors.lookup(sqlstate)("the server's words"))


@pytest.mark.parametrize(
    "sqlstate",
    [
        "22003",  # number out of range
        "22021",  # a character that is none
        "23505",  # unique violation
        "23514",  # check violation
        "25006",  # read only
        "28000",  # login refused
        "28P01",  # wrong password
        "3D000",  # no such database
        "40002",  # a constraint, found at the commit
        "42501",  # not permitted
        "42P01",  # no such table
        "54000",  # a limit of the server's
        "57P04",  # the database was dropped
        "P0001",  # what a trigger raises
        "XX001",  # data corrupted
    ],
)
def test_what_stays_wrong_is_not_tried_again(sqlstate: str) -> None:
    assert not is_passing(sqlstate)
    assert not may_pass(psycopg.errors.lookup(sqlstate)("the server's words"))


AT = 'connection to server at "db.example" (192.0.2.1), port 5432 failed: '


@pytest.mark.parametrize(
    "words",
    [
        AT + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        'connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory',
        AT + "FATAL:  the database system is starting up",
        AT + "FATAL:  sorry, too many clients already",
        'could not translate host name "db.example" to address: Temporary failure in name resolution',
        "consuming input failed: server closed the connection unexpectedly",
    ],
)
def test_a_connection_that_fails_is_tried_again(words: str) -> None:
    assert may_pass(psycopg.OperationalError(words))


@pytest.mark.parametrize(
    "words",
    [
        AT + 'FATAL:  password authentication failed for user "shop"',
        AT + "fe_sendauth: no password supplied",
        AT + 'FATAL:  no pg_hba.conf entry for host "192.0.2.7", user "shop", database "shop", no encryption',
        AT + 'FATAL:  role "shop" does not exist',
        AT + 'FATAL:  database "shop" does not exist',
        AT + 'FATAL:  role "shop" is not permitted to log in',
        AT + 'FATAL:  permission denied for database "shop"\nDETAIL:  User does not have CONNECT privilege.',
    ],
)
def test_a_login_that_is_refused_is_not_tried_again(words: str) -> None:
    assert not may_pass(psycopg.OperationalError(words))


@pytest.mark.parametrize("error", [OSError("gone"), psycopg.ProgrammingError("no statement"), psycopg.DataError("NUL")])
def test_what_is_no_word_of_the_servers_is_not_tried_again(error: Exception) -> None:
    assert not may_pass(error)

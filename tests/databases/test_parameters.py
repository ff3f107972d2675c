"""What is a parameter, and what only looks like one."""

import pytest

from sinas.databases.base import StatementError
from sinas.databases.checks import check_single
from sinas.databases.parameters import parse


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT :a, :b, :a", ("a", "b", "a")),
        ("SELECT :a::int, now()::date", ("a",)),
        ("SELECT ':a', 'it''s :b', E'it\\'s :c', E'\\\\' || :d", ("d",)),
        ("SELECT 'back\\', :a", ("a",)),
        ("SELECT type'x :a', :b", ("b",)),
        ('SELECT ":a", "x"":b", :c', ("c",)),
        ("SELECT $$ :a $$, $t$ :b $$ :c $t$, :d", ("d",)),
        ("SELECT a$b$ :a, :b$c", ("a", "b")),
        ("SELECT 1 -- :a\n, :b /* :c /* :d */ :e */ , :f", ("b", "f")),
        ("SELECT x[1:2], x[i:j], x[:n], x[f(1):m]", ("n",)),
        ("SELECT f(a := :b), (:c), 5-:d", ("b", "c", "d")),
        ("SELECT 'never ended :a", ()),
        ("SELECT $$ never ended :a", ()),
        ("SELECT /* never ended :a", ()),
        ("SELECT :1, : a, :é", ()),
    ],
)
def test_postgresql(sql: str, names: tuple[str, ...]) -> None:
    assert parse(sql, "postgresql").names == names


def test_numbers_are_shared_by_uses_of_one_name() -> None:
    assert parse("SELECT :a, :b, :a;", "postgresql").numbered() == ("SELECT $1, $2, $1", ("a", "b"))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1; DELETE FROM t", "Only one statement"),
        ("SELECT 1; -- a\n DELETE FROM t", "Only one statement"),
        ("-- nothing", "no statement"),
        (" ; ", "no statement"),
        ("/* a */ COPY t TO PROGRAM 'x'", "COPY cannot"),
        ("set transaction read write", "SET cannot"),
        ("COMMIT", "COMMIT cannot"),
        ("DEALLOCATE ALL", "DEALLOCATE cannot"),
    ],
)
def test_what_is_no_single_statement(sql: str, message: str) -> None:
    with pytest.raises(StatementError, match=message):
        check_single(parse(sql, "postgresql"))


@pytest.mark.parametrize(
    "sql", ["SELECT 1;", "SELECT 1 ; -- done", "SELECT ';' ; ;", "(SELECT 1)", "SELECT $$;$$"]
)
def test_what_is(sql: str) -> None:
    check_single(parse(sql, "postgresql"))

"""What is a parameter, and what only looks like one."""

import pytest

from sinas.databases.base import StatementError
from sinas.databases.checks import check_single
from sinas.databases.parameters import dialect_of, parse


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


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT :a, :b, :a", ("a", "b", "a")),
        ("SELECT 'it\\'s :a', 'it''s :b', 'back\\\\', :c", ("c",)),
        ('SELECT "it\\"s :a", "it""s :b", "back\\\\", :c', ("c",)),
        ("SELECT `:a`, `back\\`, :b, `x``:c`, :d", ("b", "d")),
        ("SELECT _utf8mb4'é\\':a', N':b', x'3a', :c", ("c",)),
        ("SELECT 1 -- :a\n, :b # :c\n, :d /* :e /* */, :f", ("b", "d", "f")),
        ("SELECT 5--:a, 5-- :b\n, 5--\t:c\n, 5--\r:d\n, 5--\x01:e\n, 5--\x7f:f\n, :g", ("a", "g")),
        ("SELECT @a := :b, @c:=:d, a$:e, $$ :f $$", ("b", "d", "f")),
        ("SELECT doc->'$.a:b', doc->>\"$.c :d\", :e", ("e",)),
        ("SELECT /*! :a */ /*+ :b */ 1, :c", ("c",)),
        ("SELECT 'never ended :a", ()),
        ('SELECT "never ended :a\\', ()),
        ("SELECT `never ended :a", ()),
        ("SELECT :1, : a, :é, 12:30, x:y", ()),
    ],
)
def test_mysql(sql: str, names: tuple[str, ...]) -> None:
    assert parse(sql, "mysql").names == names


@pytest.mark.parametrize(
    ("sql", "words", "is_several"),
    [
        ("#a\n(select 1); -- b", ("select", ""), False),
        ("--\rSELECT\nCALL p()", ("call", "p"), False),
        ("SELECT ';', \";\", `;` /* ; */ # ;", ("select", ""), False),
        ("SELECT 'a\\'; b'", ("select", ""), False),
        ("SELECT 'a\\\\'; DROP TABLE b", ("select", "drop"), True),
    ],
)
def test_mysql_statements(sql: str, words: tuple[str, str], is_several: bool) -> None:
    parsed = parse(sql, "mysql")
    assert (parsed.words, parsed.is_several) == (words, is_several)


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "clickhouse", "snowflake"])
def test_a_type_of_connection_has_a_dialect(kind: str) -> None:
    assert dialect_of(kind) == kind


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

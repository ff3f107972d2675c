"""What is a parameter, and what only looks like one."""

import pytest

from sinas.databases.base import StatementError
from sinas.databases.checks import check_single
from sinas.databases.parameters import bare, dialect_of, parse


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
        ("SELECT :a, :b::UInt8, x::String", ("a", "b")),
        ("SELECT 'it\\'s :a', 'it''s :b', \":c\", `:d`, `\\`:e`, :f", ("f",)),
        ("SELECT {a:UInt8}, { b : Array(String) }, { c :Enum8('x' = 1) }, :d", ("d",)),
        ("SELECT {'a':b, 'c': :d}, x ? y : z, x ? 1 : :e", ("d", "e")),
        ("SELECT json.a.:Int64, json.b.:`Array(JSON)`, :c", ("c",)),
        ("SELECT x[:n], [1,2][1], tuple.1", ("n",)),
        ("SELECT $$ :a $$, $t$ :b $$ $t$, :c", ("c",)),
        ("SELECT 1 -- :a\n, :b # :c\n, :d #! :e\n, :f /* :g */, :h", ("b", "d", "f", "h")),
        ("SELECT 1 // ':a\n, :b /* :c /* :d */ :e */, :f, $a$, :g", ("b", "f", "g")),
        ("SELECT \u2018it's :a\u2019, :b, \u201c:c", ("b",)),
        ("SELECT '{a:UInt8}' /* {b:UInt8} */, :c", ("c",)),
    ],
)
def test_clickhouse(sql: str, names: tuple[str, ...]) -> None:
    assert parse(sql, "clickhouse").names == names


def test_what_is_left_bare() -> None:
    sql = "SELECT 'a' /* b */, `c` -- d\n, {e:String}, f"
    assert bare(sql, "clickhouse") == "SELECT ''  , ''  \n, '', f"


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


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT :a, x::INT, v:field, v['k']:deep, t.v:a.b::TEXT, :b", ("a", "b")),
        ("SELECT 'it\\'s :a', 'it''s :b', \":c\", \"\\\", :d", ("d",)),
        ("SELECT $$ :a ' $$, :b, $1:c, $x$, :d", ("b", "d")),
        ("SELECT 1 -- :a\n, :b // :c\n, :d /* :e /* */, :f # :g", ("b", "d", "f", "g")),
        ("SELECT '100% ?' = :a", ("a",)),
    ],
)
def test_snowflake(sql: str, names: tuple[str, ...]) -> None:
    assert parse(sql, "snowflake").names == names

"""Where the `:name` parameters of a statement are, told from everything that looks like them.

Texts, quoted names, comments and dollar-quoted bodies are passed over as each database reads
them. A colon that follows a word, a number, a closing bracket or a quote is no parameter either:
that is `::type`, a slice `[1:2]` or `[a:b]`, Snowflake's `column:field`, ClickHouse's `{'a':b}`
and `json.field.:Type`. ClickHouse's own parameters, `{name:Type}`, are left as they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, cast, get_args

Dialect: TypeAlias = Literal["postgresql", "mysql", "clickhouse", "snowflake"]

_NAME = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)")
_WORD = re.compile(r"[^\W\d]\w*", re.UNICODE)
_DOUBLED = {
    quote: re.compile(rf"{quote}(?:[^{quote}]|{quote}{quote})*(?:{quote}|\Z)") for quote in "'\"`"
}
_ESCAPED = {
    quote: re.compile(rf"{quote}(?:[^{quote}\\]|\\.|{quote}{quote}|\\\Z)*(?:{quote}|\Z)", re.DOTALL)
    for quote in "'\"`"
}
_TO_LINE_END = re.compile(r"[^\n]*")
_BLOCK = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_NESTING = re.compile(r"/\*|\*/")
_DOLLAR = re.compile(r"\$(?:[^\W\d]\w*)?\$", re.UNICODE)
# After these, a colon belongs to what is before it.
_CLOSING = re.compile(r"[\w$)\]}'\"`:.]", re.UNICODE)
_CURLY = {"\u2018": "\u2019", "\u201c": "\u201d"}
_TYPED = re.compile(r"\{\s*[A-Za-z_]\w*\s*:[^{}]*\}")


def dialect_of(connection_type: str) -> Dialect:
    """How the databases of a connection's type read a statement."""
    known = connection_type in get_args(Dialect)
    return cast(Dialect, connection_type) if known else "postgresql"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A statement taken apart.

    Attributes:
        parts: The text between parameters: one more than there are parameters.
        names: The parameters in their order; they may repeat.
        words: The first two words outside comments, in lower case; '' where there is none.
        is_several: Whether something follows a semicolon.
    """

    parts: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[str, str]
    is_several: bool

    def numbered(self) -> tuple[str, tuple[str, ...]]:
        """With `$1`, `$2`, … and the names they stand for, each once."""
        order = tuple(dict.fromkeys(self.names))
        return self.written(lambda name: f"${order.index(name) + 1}"), order

    def written(self, place: Callable[[str], str]) -> str:
        """With what `place` makes of each name."""
        pieces = [self.parts[0]]
        for name, part in zip(self.names, self.parts[1:], strict=True):
            pieces += (place(name), part)
        return "".join(pieces)


@lru_cache(maxsize=512)
def parse(sql: str, dialect: Dialect) -> Parsed:
    """Find the parameters of a statement. A trailing semicolon is taken off."""
    parts: list[str] = []
    names: list[str] = []
    words: list[str] = []
    begin = at = 0
    ended = -1
    is_several = False
    while at < len(sql):
        skipped = _skipped(sql, at, dialect)
        char = sql[at]
        if skipped is not None and _is_comment(sql, at, skipped):
            at = skipped
            continue
        if ended >= 0 and not char.isspace() and char != ";":
            is_several = True
        if skipped is not None:
            at = skipped
        elif char == ";":
            ended = at if ended < 0 else ended
            at += 1
        elif (found := _parameter(sql, at)) is not None:
            parts.append(sql[begin:at])
            names.append(found.group(1))
            begin = at = found.end()
        elif (word := _WORD.match(sql, at)) is not None:
            if len(words) < 2:
                words.append(word.group().lower())
            at = word.end()
        else:
            at += 1
    # What follows the last semicolon is only space and comments.
    end = len(sql) if ended < 0 or is_several else max(ended, begin)
    parts.append(sql[begin:end])
    first, second, *_ = [*words, "", ""]
    return Parsed(tuple(parts), tuple(names), (first, second), is_several)


def _parameter(sql: str, at: int) -> re.Match[str] | None:
    if sql[at] != ":" or (at and _CLOSING.match(sql[at - 1])):
        return None
    return _NAME.match(sql, at)


def _is_comment(sql: str, at: int, end: int) -> bool:
    return sql[at] in "-/#" and end > at


def _skipped(sql: str, at: int, dialect: Dialect) -> int | None:
    """Where the text, name or comment ends that begins here; None where none begins."""
    char = sql[at]
    if char in "'\"`":
        return _quoted_end(sql, at, dialect)
    if char == "$" and dialect != "mysql":
        return _dollar_end(sql, at, dialect)
    if char in "-/#":
        return _comment_end(sql, at, dialect)
    return _clickhouse_end(sql, at) if dialect == "clickhouse" else None


def _clickhouse_end(sql: str, at: int) -> int | None:
    """Where its own parameter ends, or a text in typographical quotes."""
    if sql[at] == "{" and (typed := _TYPED.match(sql, at)) is not None:
        return typed.end()
    if (quote := _CURLY.get(sql[at])) is not None:
        closing = sql.find(quote, at)
        return len(sql) if closing < 0 else closing + 1
    return None


@lru_cache(maxsize=512)
def bare(sql: str, dialect: Dialect) -> str:
    """The statement with a space for each comment and `''` for each text and quoted name."""
    pieces: list[str] = []
    at = 0
    while at < len(sql):
        end = _skipped(sql, at, dialect)
        if end is None:
            pieces.append(sql[at])
            at += 1
        else:
            pieces.append(" " if _is_comment(sql, at, end) else "''")
            at = end
    return "".join(pieces)


def _quoted_end(sql: str, at: int, dialect: Dialect) -> int | None:
    quote = sql[at]
    if quote == "`" and dialect not in ("mysql", "clickhouse"):
        return None
    if dialect == "postgresql":
        escapes = quote == "'" and _follows_e(sql, at)
    elif dialect == "snowflake":
        escapes = quote == "'"
    elif dialect == "mysql":
        escapes = quote != "`"
    else:
        escapes = True
    found = (_ESCAPED if escapes else _DOUBLED)[quote].match(sql, at)
    return found.end() if found is not None else len(sql)


def _follows_e(sql: str, at: int) -> bool:
    """Whether the quote belongs to `E'…'`, not to a word that ends in e."""
    if at == 0 or sql[at - 1] not in "eE":
        return False
    return at == 1 or not (sql[at - 2].isalnum() or sql[at - 2] in "_$")


def _dollar_end(sql: str, at: int, dialect: Dialect) -> int | None:
    if at and (sql[at - 1].isalnum() or sql[at - 1] in "_$"):
        return None
    opening = _DOLLAR.match(sql, at)
    if opening is None or (dialect == "snowflake" and opening.group() != "$$"):
        return None
    closing = sql.find(opening.group(), opening.end())
    if closing < 0:
        # To ClickHouse, a name.
        return None if dialect == "clickhouse" else len(sql)
    return closing + len(opening.group())


def _comment_end(sql: str, at: int, dialect: Dialect) -> int | None:
    two = sql[at : at + 2]
    if two == "/*":
        nests = dialect in ("postgresql", "clickhouse")
        return _block_end(sql, at) if nests else _end(_BLOCK, sql, at)
    # MySQL wants a space or a control character after it: `1--1` is arithmetic there.
    dashes = two == "--" and (dialect != "mysql" or not " " < sql[at + 2 : at + 3] != "\x7f")
    slashes = two == "//" and dialect in ("snowflake", "clickhouse")
    hash_sign = sql[at] == "#" and (
        dialect == "mysql" or (dialect == "clickhouse" and two in ("# ", "#!"))
    )
    return _end(_TO_LINE_END, sql, at) if dashes or slashes or hash_sign else None


def _block_end(sql: str, at: int) -> int:
    """The end of a comment in which comments nest."""
    depth = 0
    for mark in _NESTING.finditer(sql, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(sql)


def _end(pattern: re.Pattern[str], sql: str, at: int) -> int:
    found = pattern.match(sql, at)
    return len(sql) if found is None else found.end()

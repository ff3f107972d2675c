"""What every driver does, whatever database it speaks to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self
from uuid import UUID

from sinas.errors import BadRequestError, DeadlineError, SinasError, UpstreamError

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTarget:
    """Everything a driver needs to connect. Equal targets share a pool, others never do.

    Attributes:
        connection_id: None for one that is only tried.
        options: What one type knows besides, such as Snowflake's `warehouse`.
        read_only: Nothing may be changed through it.
    """

    connection_id: UUID | None
    name: str
    connection_type: str
    host: str
    port: int
    database: str
    username: str
    password: str | None = field(repr=False)
    ssl_mode: str = "prefer"
    min_pool_size: int = 2
    max_pool_size: int = 10
    read_only: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `:name` parameters and their values; a missing value is NULL.

    Values go to the database beside the text, never in it.
    """

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may take.

    Attributes:
        rows: Rows returned at most; the database is not asked for more.
        seconds: Kept by the database's server where it can, and by the driver besides.
    """

    rows: int = 1000
    seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a statement gave, as the driver's own Python values.

    Attributes:
        columns: Names, in order; empty for a statement without rows. They may repeat.
        affected: Rows that were changed; None for one that only looks.
        is_cut: Whether there were more rows than the limit.
    """

    columns: tuple[str, ...] = ()
    rows: Sequence[Sequence[Any]] = ()
    affected: int | None = None
    is_cut: bool = False

    def dicts(self) -> list[dict[str, Any]]:
        """Rows by column name; a name that comes again is told apart by a number."""
        names: list[str] = []
        for column in self.columns:
            name, count = column, 1
            while name in names:
                count += 1
                name = f"{column}_{count}"
            names.append(name)
        return [dict(zip(names, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Statements that say what is in a database, as the connection's role may see it.

    Their columns are those of the API. Where a kind of database has no such thing, the statement
    is None. A statement's parameters are in brackets.

    Attributes:
        own_schema: The schema that is meant where none is named.
        schemas: `schema_name`.
        tables: `table_name`, `table_type`, `estimated_rows`, `size_bytes` (`:schema`).
        columns: `column_name`, `data_type`, `udt_name`, `is_nullable`, `column_default`,
            `character_maximum_length`, `numeric_precision`, `numeric_scale`, `ordinal_position`,
            `is_primary_key` (`:schema`, `:table`); no row where there is no such table.
        constraints: `constraint_name`, `constraint_type`, `columns`, `definition`, `ref_schema`,
            `ref_table`, `ref_columns` (`:schema`, `:table`).
        indexes: `index_name`, `definition` (`:schema`, `:table`).
        views: `view_name`, `view_definition` (`:schema`).
        json_columns: Those whose values come as JSON texts, where the database has no lists or no
            booleans.
    """

    own_schema: str
    schemas: str
    tables: str
    columns: str
    constraints: str | None
    indexes: str | None
    views: str
    json_columns: frozenset[str] = frozenset()


class Database(Protocol):
    """A pool of connections to one database."""

    @property
    def catalog(self) -> Catalog:
        """How to ask what is in it."""
        ...

    async def check(self, limits: Limits) -> str | None:
        """Ask one thing; what its owner should know about the role, where there is something.

        Raises:
            DatabaseError: One of its kinds.
        """
        ...

    async def read(self, statement: Statement, limits: Limits) -> Result:
        """Run one statement that cannot change anything: the database itself sees to that.

        Raises:
            DatabaseError: One of its kinds.
        """
        ...

    async def write(self, statements: Sequence[Statement], limits: Limits) -> Result:
        """Run statements in one transaction, where the database has any; the last one's result.

        Raises:
            DatabaseError: One of its kinds. Where there are transactions nothing was changed.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        ...


class DatabaseError(SinasError):
    """Something about a user's database. Messages are the server's own, made fit for people.

    Attributes:
        sqlstate: The server's own code for it, where it gave one.
    """

    sqlstate: str | None = None

    def coded(self, sqlstate: str | None) -> Self:
        """This error, with the server's code."""
        self.sqlstate = sqlstate
        return self


class StatementError(DatabaseError, BadRequestError):
    """The database refused the statement: its syntax, its types, a constraint, a right."""

    code = "database_statement_refused"


class ReadOnlyError(StatementError):
    """The statement wanted to change something where that is not allowed."""

    code = "database_read_only"


class StatementTimeoutError(DatabaseError, DeadlineError):
    """The time limit passed. The server was told to stop."""

    code = "database_timeout"


class UnreachableError(DatabaseError, UpstreamError):
    """No connection: wrong address, wrong password, no TLS, server down or full, no driver."""

    code = "database_unreachable"


class DriverMissingError(UnreachableError):
    """The library of the driver is not installed here."""

    code = "database_driver_missing"

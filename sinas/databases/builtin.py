"""The built-in database: one beside Sinas' own, with a role that can reach nothing else.

Whoever may write queries chooses SQL for this role. So it is no superuser, cannot become one, owns
no other database, and cannot connect to Sinas' own.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from sinas.databases.ddl import quoted

# Of all processes together: the rest of the server's connections stay Sinas' own.
_MAX_CONNECTIONS: Final = 50
_ITERATIONS: Final = 4096
_SUFFIX: Final = "_data"
_MAX_NAME_BYTES: Final = 63

_FACTS = """
SELECT current_database() AS own, me.rolsuper AS is_super,
    me.rolsuper OR me.rolcreatedb AND me.rolcreaterole
        AND pg_has_role(own.datdba, 'USAGE') AS may_create
FROM pg_catalog.pg_roles me, pg_catalog.pg_database own
WHERE me.rolname = current_user AND own.datname = current_database()
"""
_ROLE = """
SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
        OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid) AS is_mighty,
    pg_catalog.shobj_description(r.oid, 'pg_authid') AS said
FROM pg_catalog.pg_roles r WHERE r.rolname = $1
"""
_OWNER = "SELECT pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database WHERE datname = $1"
_IS_OPEN = "SELECT pg_catalog.has_database_privilege('public', $1::name::text, 'CONNECT')"


class BuiltinRefusedError(Exception):
    """The server, or what stands on it already, does not allow a built-in database."""


@dataclass(frozen=True, slots=True)
class Builtin:
    """The database, and the role of the same name that owns it."""

    name: str


async def make_builtin(connection: asyncpg.Connection, password: str) -> Builtin:
    """Make role and database where they are missing, and give the role this password.

    Every step may have been done by a start that was cut off. Call it one at a time.

    Args:
        connection: To Sinas' own database, outside of any transaction.
        password: ASCII.

    Raises:
        BuiltinRefusedError: Nothing was made that could do harm.
        asyncpg.PostgresError: The server refused a step.
    """
    facts = await connection.fetchrow(_FACTS)
    own = str(facts["own"])
    name = _name(own)
    if not facts["may_create"]:
        raise BuiltinRefusedError(
            "the role of DATABASE_URL is no superuser and lacks CREATEDB, CREATEROLE or the "
            f"ownership of {own}"
        )
    mark = f"Owns the built-in database of Sinas in {own}."
    role = await connection.fetchrow(_ROLE, name)
    owner = await connection.fetchval(_OWNER, name)
    _check_ours(name, mark, role, owner)
    await connection.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {quoted(own)} FROM PUBLIC")
    # A REVOKE of what somebody else granted is only a warning.
    if await connection.fetchval(_IS_OPEN, own):
        raise BuiltinRefusedError(f"every role of the server may connect to {own}")
    await _make_role(connection, name, mark, password, exists=role is not None)
    await _make_database(
        connection, name, exists=owner is not None, is_super=bool(facts["is_super"])
    )
    return Builtin(name)


def _name(own: str) -> str:
    room = _MAX_NAME_BYTES - len(_SUFFIX)
    return own.encode()[:room].decode(errors="ignore") + _SUFFIX


def _check_ours(name: str, mark: str, role: Any, owner: str | None) -> None:
    if role is not None and (role["said"] != mark or role["is_mighty"]):
        raise BuiltinRefusedError(f"there is a role {name} that is somebody else's")
    if owner is not None and owner != name:
        raise BuiltinRefusedError(f"there is a database {name} that is somebody else's")


async def _make_role(
    connection: asyncpg.Connection, name: str, mark: str, password: str, *, exists: bool
) -> None:
    # Not superuser, CREATEDB and so on: a new role is none of these, and ALTER ROLE with their
    # opposites is for superusers only. The mark is set in the same transaction.
    verb = "ALTER" if exists else "CREATE"
    await connection.execute(
        f"{verb} ROLE {quoted(name)} LOGIN CONNECTION LIMIT {_MAX_CONNECTIONS} "
        f"PASSWORD '{_scram(password)}'; COMMENT ON ROLE {quoted(name)} IS {_literal(mark)}"
    )


async def _make_database(
    connection: asyncpg.Connection, name: str, *, exists: bool, is_super: bool
) -> None:
    role = quoted(name)
    if not is_super:
        # Who makes a database for a role must be a member of it while doing so.
        await connection.execute(f"GRANT {role} TO CURRENT_USER")
    if not exists:
        # template0: nobody's own additions to template1, and nobody is connected to it.
        await connection.execute(f"CREATE DATABASE {role} OWNER {role} TEMPLATE template0")
    await connection.execute(f"REVOKE ALL ON DATABASE {role} FROM PUBLIC")
    if not is_super:
        await connection.execute(f"REVOKE {role} FROM CURRENT_USER")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _scram(password: str) -> str:
    """What PostgreSQL keeps of a password. Sent in its place, no log of the server has it."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(each).decode() for each in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"

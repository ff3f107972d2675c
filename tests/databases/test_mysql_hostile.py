"""The MySQL driver against servers that lie, or that are none."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pymysql._auth import scramble_caching_sha2
from pymysql.constants import CLIENT

from sinas.databases.base import (
    DatabaseError,
    Limits,
    Statement,
    UnreachableError,
)
from sinas.databases.mysql_catalog import catalog_for
from sinas.databases.opening import open_database
from tests.support.mysql_script import OK, PASSWORD, SALT, scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.mysql_script import Wire

LIMITS = Limits(rows=10, seconds=3)


async def refusal(script: Callable[[Wire], Awaitable[Any]], **changes: Any) -> tuple[str, bytes]:
    """Why a server was not connected to, and what it heard meanwhile."""
    async with scripted(script) as (target, wires):
        with pytest.raises(UnreachableError) as raised:
            await open_database(dataclasses.replace(target, **changes))
        await asyncio.sleep(0)
    return str(raised.value), b"".join(bytes(wire.received) for wire in wires)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_that_has_no_tls_hears_nothing_where_it_is_required(mode: str) -> None:
    async def no_tls(wire: Wire) -> None:
        wire.greet("mysql_native_password")
        await wire.receive()

    why, heard = await refusal(no_tls, ssl_mode=mode)
    assert "offers no TLS" in why
    assert heard == b""


@pytest.mark.parametrize("plugin", ["mysql_clear_password", "mysql_old_password"])
@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_the_password_is_not_sent_in_clear_text(plugin: str, mode: str) -> None:
    async def asks_at_once(wire: Wire) -> None:
        wire.greet(plugin)
        await wire.receive()

    async def asks_later(wire: Wire) -> None:
        wire.greet("mysql_native_password")
        await wire.receive()
        wire.send(b"\xfe" + plugin.encode() + b"\0" + SALT + b"\0")
        await wire.receive()

    for script in (asks_at_once, asks_later):
        why, heard = await refusal(script, ssl_mode=mode)
        assert plugin in why
        assert PASSWORD.encode() not in heard


@pytest.mark.parametrize("is_switched", [False, True])
async def test_caching_sha2_without_tls_encrypts_with_the_servers_key(is_switched: bool) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    learned = b""

    async def never_seen(wire: Wire) -> None:
        nonlocal learned
        plugin = "caching_sha2_password"
        wire.greet("mysql_native_password" if is_switched else plugin)
        first = await wire.receive()
        if is_switched:
            wire.send(b"\xfe" + plugin.encode() + b"\0" + SALT + b"\0")
            first = await wire.receive()
        # What a server that has seen the password would know.
        assert scramble_caching_sha2(PASSWORD.encode(), SALT) in first
        wire.send(b"\x01\x04")
        assert await wire.receive() == b"\x02"
        wire.send(b"\x01" + public)
        scheme = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        masked = key.decrypt(await wire.receive(), scheme)
        learned = bytes(byte ^ SALT[at % len(SALT)] for at, byte in enumerate(masked))
        wire.send(OK)
        await wire.answer()

    async with scripted(never_seen) as (target, wires):
        database = await open_database(dataclasses.replace(target, ssl_mode="disable"))
        await database.aclose()
    assert learned == PASSWORD.encode() + b"\0"
    assert PASSWORD.encode() not in wires[0].received


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x05\x00\x00\x00hello",
        b"\x01\x00\x00\x00\x0a",
        b"\xff\xff\xff\x00" + b"x" * 1000,
        b"\x00\x00\x00\x00",
        b"",
    ],
    ids=map(str, range(6)),
)
async def test_what_is_no_mysql_server_says_so(greeting: bytes) -> None:
    async def other(wire: Wire) -> None:
        wire.writer.write(greeting)
        wire.writer.write_eof()

    await refusal(other)


async def test_neither_several_statements_nor_local_files_are_asked_for() -> None:
    async def honest(wire: Wire) -> None:
        await wire.let_in()
        await wire.answer()

    async with scripted(honest) as (target, wires):
        await (await open_database(target)).aclose()
    asked = int.from_bytes(wires[0].received[4:8], "little")
    assert asked & CLIENT.PROTOCOL_41
    assert not asked & (CLIENT.MULTI_STATEMENTS | CLIENT.LOCAL_FILES)


async def test_a_server_cannot_read_files_of_this_machine() -> None:
    def asks_for_a_file(command: bytes) -> bytes | None:
        return b"\xfb/etc/passwd" if b"marked" in command and command[0] == 3 else None

    async def curious(wire: Wire) -> None:
        await wire.let_in()
        await wire.answer(asks_for_a_file)

    async with scripted(curious) as (target, wires):
        database = await open_database(target)
        with pytest.raises(DatabaseError):
            await database.read(Statement("SELECT 'marked'"), LIMITS)
        await database.aclose()
    assert b"root:" not in b"".join(bytes(wire.received) for wire in wires)


@pytest.mark.parametrize(
    ("facts", "limit"),
    [
        ({"version": "8.4.0", "max_execution_time": "0"}, b"SESSION max_execution_time = 3000"),
        (
            {"version": "11.4.2-MariaDB", "max_statement_time": "0"},
            b"SESSION max_statement_time = 3.0",
        ),
        # Percona's old one counts milliseconds.
        ({"version": "5.6.49", "max_statement_time": "0"}, b""),
    ],
)
async def test_a_server_is_given_the_limit_of_time_it_knows(
    facts: dict[str, str], limit: bytes
) -> None:
    async def honest(wire: Wire) -> None:
        await wire.let_in()
        await wire.answer(facts=facts)

    async with scripted(honest) as (target, wires):
        database = await open_database(target)
        await database.read(Statement("SHOW TABLES"), LIMITS)
        await database.aclose()
    heard = bytes(wires[0].received)
    assert limit in heard
    assert heard.count(b"_time = 3") == bool(limit)


@pytest.mark.parametrize("is_same", [True, False])
async def test_only_the_server_that_runs_it_is_told_to_stop(is_same: bool) -> None:
    """Behind a load balancer, another server has another's statement of that number."""
    hosts = iter(["one", "one" if is_same else "two"])

    async def sleeping(wire: Wire) -> None:
        await wire.let_in()
        await wire.answer(
            lambda command: asleep if b"SLEEP" in command and command[0] == 3 else None,
            {"hostname": next(hosts), "pseudo_thread_id": "4711"},
        )

    # The head of a result whose rows never come.
    asleep = b"\x01"
    async with scripted(sleeping) as (target, wires):
        database = await open_database(target)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(database.read(Statement("SELECT SLEEP(9)"), LIMITS))
            async with asyncio.timeout(5):
                while b"\x03SELECT SLEEP" not in wires[0].received:
                    await asyncio.sleep(0.01)
            task.cancel()
        await database.aclose()
    assert len(wires) == 2
    assert (b"KILL 4711" in wires[1].received) is is_same


@pytest.mark.parametrize(
    ("version", "has_checks", "by_table"),
    [
        ("5.7.44-log", False, False),
        ("8.0.15", False, False),
        ("8.0.16", True, False),
        ("9.1.0", True, False),
        ("10.11.19-MariaDB-0+deb12u1", True, True),
    ],
)
def test_each_server_is_asked_for_the_checks_it_has(
    version: str, has_checks: bool, by_table: bool
) -> None:
    statement = catalog_for("d", version).constraints or ""
    assert ("check_constraints" in statement, "h.table_name" in statement) == (has_checks, by_table)

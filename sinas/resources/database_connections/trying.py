"""Trying a connection: what comes of it is an answer, never an error."""

import time
from uuid import uuid4

from sinas.databases.base import DatabaseError, DatabaseTarget, Limits
from sinas.databases.pools import DatabasePools
from sinas.resources.database_connections.schemas import DatabaseConnectionTest, TestOutcome

_LIMITS = Limits(rows=1, seconds=5)


def target_to_try(data: DatabaseConnectionTest) -> DatabaseTarget:
    """A target that belongs to no stored connection."""
    password = data.password
    return DatabaseTarget(
        connection_id=None,
        name=f"test-{uuid4().hex[:8]}",
        connection_type=data.connection_type,
        host=data.host,
        port=data.port,
        database=data.database,
        username=data.username,
        password=None if password is None else password.get_secret_value(),
        ssl_mode=data.ssl_mode or "prefer",
        min_pool_size=1,
        max_pool_size=1,
    )


async def try_target(pools: DatabasePools, target: DatabaseTarget) -> TestOutcome:
    """Connect and ask one thing."""
    began = time.monotonic()
    try:
        async with pools.database(target) as database:
            warning = await database.check(_LIMITS)
    except DatabaseError as error:
        return TestOutcome(success=False, message=error.message, latency_ms=None)
    latency = round((time.monotonic() - began) * 1000)
    message = " ".join(filter(None, ("Connected.", warning)))
    return TestOutcome(success=True, message=message, latency_ms=latency)

"""From a row to what a driver connects with. The password leaves the row only here."""

from collections.abc import Mapping

from sinas.databases.base import DatabaseTarget
from sinas.errors import ConfigurationError, ConflictError, UnavailableError
from sinas.kit.crypto import Cipher
from sinas.models import DatabaseConnection

DEFAULT_MIN_POOL = 2
DEFAULT_MAX_POOL = 10
_POOL_KEYS = frozenset({"min_pool_size", "max_pool_size"})


class UnreadablePasswordError(UnavailableError):
    """A password was encrypted under another key. Trying again does not help before it is mended."""


class InactiveConnectionError(ConflictError):
    """The connection is switched off."""

    code = "database_connection_inactive"


def target_of(row: DatabaseConnection, cipher: Cipher) -> DatabaseTarget:
    """What a driver needs, for a connection that is in use.

    Raises:
        InactiveConnectionError: It is switched off.
        UnreadablePasswordError: Its password cannot be decrypted.
    """
    if not row.is_active:
        raise InactiveConnectionError(
            f"The database connection '{row.name}' is inactive; set is_active to use it."
        )
    return any_target_of(row, cipher)


def any_target_of(row: DatabaseConnection, cipher: Cipher) -> DatabaseTarget:
    """As `target_of`, for one that may be switched off: to test it before it is switched on."""
    minimum, maximum = pool_sizes(row.config)
    return DatabaseTarget(
        connection_id=row.id,
        name=row.name,
        connection_type=row.connection_type,
        host=row.host,
        port=row.port,
        database=row.database,
        username=row.username,
        password=_password(row, cipher),
        ssl_mode=row.ssl_mode,
        min_pool_size=minimum,
        max_pool_size=maximum,
        read_only=row.read_only,
        options=options_of(row.config),
    )


def pool_sizes(config: Mapping[str, object]) -> tuple[int, int]:
    """The pool's bounds, in order whatever was stored."""
    minimum, maximum = (
        value if isinstance(value := config.get(key), int) else default
        for key, default in (
            ("min_pool_size", DEFAULT_MIN_POOL),
            ("max_pool_size", DEFAULT_MAX_POOL),
        )
    )
    return min(minimum, maximum), maximum


def options_of(config: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The texts of a configuration, in an order of their own, so that targets compare."""
    return tuple(
        sorted(
            (key, value)
            for key, value in config.items()
            if key not in _POOL_KEYS and isinstance(value, str)
        )
    )


def _password(row: DatabaseConnection, cipher: Cipher) -> str | None:
    if row.password_encrypted is None:
        return None
    try:
        return cipher.decrypt(row.password_encrypted)
    except ConfigurationError as error:
        raise UnreadablePasswordError(
            f"The password of the database connection '{row.name}' cannot be decrypted: it was "
            "stored under another ENCRYPTION_KEY. Restore that key, or store it again."
        ) from error

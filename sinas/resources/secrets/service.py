"""Rules of secrets: values only go in, and what everybody's code uses only admins change."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from sinas.kit.crypto import Cipher
from sinas.models import Secret, SecretVisibility
from sinas.resources.secrets.repository import SecretRepository, sendable, usable
from sinas.resources.secrets.schemas import SecretCreate, SecretUpdate


class UnreadableSecretError(UnavailableError):
    """A secret was encrypted under another key. Trying again does not help before it is mended."""


class SecretService:
    """Secrets of one caller, in one transaction. No method returns a value."""

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        self.unit = unit
        self.principal = principal
        self.cipher = cipher
        self.rows = SecretRepository(unit.session, principal)

    async def page(self, *, skip: int, limit: int) -> Sequence[Secret]:
        """The shared ones and the caller's own by name; everybody's with `read:all`."""
        return await self.rows.listed(skip=skip, limit=limit)

    async def get(self, name: str) -> Secret:
        """The caller's private secret of that name, else the shared one.

        Raises:
            NotFoundError: Neither exists. Other users' private ones do not count.
        """
        return self._found(await self.rows.named(name, "read"), name)

    async def put(self, data: SecretCreate) -> Secret:
        """Store a secret, over the one that has its name and visibility.

        Raises:
            ForbiddenError: A shared one, without `create:all`.
        """
        if data.visibility is SecretVisibility.SHARED:
            self._require_all("create", data.name)
        changes: dict[str, Any] = {
            name: getattr(data, name)
            for name in ("description", "allowed_hosts")
            if name in data.model_fields_set
        }
        encrypted = self.cipher.encrypt(data.value.get_secret_value())
        return await self.rows.put(data.name, data.visibility, encrypted, changes)

    async def update(self, name: str, data: SecretUpdate) -> Secret:
        """Change what `data` carries of the caller's private secret, else of the shared one.

        Raises:
            NotFoundError: Neither exists.
            ForbiddenError: It is the shared one, and the caller lacks `update:all`.
        """
        row = self._found(await self.rows.named(name, "update"), name)
        self._check(row, "update")
        if data.value is not None:
            row.value_encrypted = self.cipher.encrypt(data.value.get_secret_value())
        if "description" in data.model_fields_set:
            row.description = data.description
        if "allowed_hosts" in data.model_fields_set:
            row.allowed_hosts = data.allowed_hosts
        # For `updated_at`, which is the database's.
        await self.unit.session.flush()
        await self.unit.session.refresh(row)
        return row

    async def delete(self, name: str, visibility: SecretVisibility) -> None:
        """Forget the shared secret of that name, or the caller's private one.

        Raises:
            NotFoundError: There is none.
            ForbiddenError: A shared one, without `delete:all`.
        """
        row = self._found(await self.rows.named(name, "delete", visibility), name)
        self._check(row, "delete")
        await self.unit.session.delete(row)

    def _check(self, row: Secret, action: str) -> None:
        if row.visibility is SecretVisibility.SHARED:
            self._require_all(action, row.name)
        else:
            self.principal.require(f"sinas.secrets.{action}:own")

    def _require_all(self, action: str, name: str) -> None:
        if not self.principal.can(f"sinas.secrets.{action}:all"):
            raise ForbiddenError(
                f"Not authorized to {action} the shared secret '{name}': everybody's functions "
                f"may use it, so this needs 'sinas.secrets.{action}:all'. For a secret of your "
                "own, use visibility=private."
            )

    def _found(self, row: Secret | None, name: str) -> Secret:
        if row is None:
            raise NotFoundError(f"Secret '{name}' not found")
        return row


async def secret_values(
    session: AsyncSession, cipher: Cipher, user_id: UUID, names: Sequence[str] | None
) -> dict[str, str]:
    """Plain values that work of a user may use: the shared ones, their private ones over them.

    Only `names`, or all for None; a name that does not exist is left out. For code that hands
    them to their destination: never log, store or return them.

    Raises:
        UnreadableSecretError: One cannot be decrypted; it is named.
    """
    if names is not None and not names:
        return {}
    # Decrypted once overridden ones are out: they need not be readable.
    encrypted = {row.name: row.value_encrypted for row in await usable(session, user_id, names)}
    return {name: _plain(cipher, name, text) for name, text in encrypted.items()}


async def secret_value(
    session: AsyncSession, cipher: Cipher, user_id: UUID, name: str
) -> str | None:
    """The plain value of one secret as work of a user sees it; None when there is none.

    Raises:
        UnreadableSecretError: It cannot be decrypted.
    """
    return (await secret_values(session, cipher, user_id, [name])).get(name)


async def secret_for_host(
    session: AsyncSession,
    cipher: Cipher,
    user_id: UUID,
    name: str,
    host: str,
    *,
    trusts: Callable[[SecretVisibility], bool],
) -> str:
    """The plain value of a secret that work of a user is about to send to `host`.

    Args:
        session: Read from.
        cipher: What it is decrypted with.
        user_id: Whose work.
        name: Their private one of this name, else the shared one.
        host: Where it would go.
        trusts: Whether whoever chose the host may send a secret of that kind there, which is
            asked where the secret itself names no hosts.

    Raises:
        BadRequestError: There is no such secret.
        ForbiddenError: It may not be sent there.
        UnreadableSecretError: It cannot be decrypted.
    """
    found = await sendable(session, user_id, name)
    if found is None:
        raise BadRequestError(
            f"There is no secret '{name}': store it, shared or as a private one of yours."
        )
    encrypted, visibility, hosts = found
    if hosts is None:
        may = trusts(visibility)
    else:
        may = any(_covers(str(entry).lower(), host.lower().rstrip(".")) for entry in hosts)
    if not may:
        raise ForbiddenError(
            f"The secret '{name}' may not be sent to '{host}'. Whoever may change the secret can "
            f"add '{host}' to its allowed_hosts."
        )
    return _plain(cipher, name, encrypted)


def _covers(entry: str, host: str) -> bool:
    return host == entry or (entry.startswith(".") and host.endswith(entry))


def _plain(cipher: Cipher, name: str, encrypted: str) -> str:
    try:
        return cipher.decrypt(encrypted)
    except ConfigurationError as error:
        raise UnreadableSecretError(
            f"Secret '{name}' cannot be decrypted: it was stored under another ENCRYPTION_KEY. "
            "Restore that key, or store the secret again."
        ) from error

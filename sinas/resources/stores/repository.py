"""Rows of stores."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.crud.repository import Repository
from sinas.kit.crypto import Cipher
from sinas.kit.ids import uuid7
from sinas.models import State, Store
from sinas.resources.stores.values import packed

_BATCH = 200
_states = State.__table__
# By hand, to leave `updated_at` alone: nothing of the state itself changes.
_ENCRYPT = (
    update(State)
    .where(State.id == bindparam("of_id"))
    .values(
        value=bindparam("new_value"),
        encrypted_value=bindparam("secret"),
        encrypted=True,
        updated_at=State.updated_at,
    )
)


class StoreRepository(Repository[Store]):
    """Stores, as one caller may see them."""

    model = Store
    resource = "stores"

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Store]:
        """Readable ones, newest first."""
        statement = self.visible().order_by(Store.created_at.desc(), Store.id.desc())
        if namespace is not None:
            statement = statement.where(Store.namespace == namespace)
        return await self.page(statement, skip=skip, limit=limit)

    async def by_names(self, *, skip: int, limit: int) -> Sequence[Store]:
        """Readable ones, by name."""
        statement = self.visible().order_by(Store.namespace, Store.name)
        return await self.page(statement, skip=skip, limit=limit)

    async def lock(self, store_id: UUID) -> None:
        """Make writes to the store's states wait until this transaction ends."""
        await self.session.execute(select(Store.id).where(Store.id == store_id).with_for_update())

    async def encrypt_states(self, store_id: UUID, cipher: Cipher) -> None:
        """Encrypt the values of a locked store that are not."""
        plain = (
            select(State.id, State.value)
            .where(State.store_id == store_id, State.encrypted.is_(False))
            .limit(_BATCH)
            .with_for_update()
        )
        connection = await self.session.connection()
        while rows := (await connection.execute(plain)).all():
            changes = []
            for key, value in rows:
                columns = await packed(cipher, value, encrypted=True)
                changes.append(
                    {
                        "of_id": key,
                        "new_value": columns["value"],
                        "secret": columns["encrypted_value"],
                    }
                )
            await connection.execute(_ENCRYPT, changes)


async def make_store(session: AsyncSession, namespace: str, name: str) -> None:
    """A store that belongs to nobody, unless there is one of that name."""
    row = insert(Store).values(id=uuid7(), user_id=None, namespace=namespace, name=name, schema={})
    await session.execute(row.on_conflict_do_nothing())

"""Rules of stores."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from sinas.auth.principal import Principal
from sinas.crud.service import CrudService
from sinas.db.unit import Unit
from sinas.errors import ForbiddenError
from sinas.kit.crypto import Cipher
from sinas.models import Store
from sinas.resources.stores.repository import StoreRepository
from sinas.resources.stores.schemas import StoreCreate, StoreUpdate


class StoreService(CrudService[Store, StoreCreate, StoreUpdate]):
    """Operations on stores, for one caller. Deleting one deletes everybody's states in it."""

    repository = StoreRepository
    noun = "store"
    rows: StoreRepository

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        super().__init__(unit, principal)
        self.cipher = cipher

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Store]:
        """Stores the caller may read, newest first; of one namespace if told."""
        return await self.rows.listed(namespace, skip=skip, limit=limit)

    async def discover(self, *, skip: int, limit: int) -> Sequence[Store]:
        """Stores the caller may read, by name."""
        return await self.rows.by_names(skip=skip, limit=limit)

    @override
    async def check(self, values: dict[str, Any], row: Store | None) -> None:
        if row is None:
            return
        namespace, name = values.get("namespace", row.namespace), values.get("name", row.name)
        is_renamed = (namespace, name) != (row.namespace, row.name)
        if is_renamed and not self.principal.can_create("stores", namespace, name):
            raise ForbiddenError(f"Not authorized to name a store '{namespace}/{name}'.")
        if values.get("encrypted") and not row.encrypted:
            await self.rows.lock(row.id)
            await self.rows.encrypt_states(row.id, self.cipher)

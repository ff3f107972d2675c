"""Rules of connectors."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from typing_extensions import override

from sinas.crud.service import CrudService
from sinas.errors import BadRequestError, ForbiddenError
from sinas.kit.json_types import JsonObject
from sinas.models import Connector, ConnectorOperation, ConnectorTrust
from sinas.resources.connectors.checks import check_operations
from sinas.resources.connectors.repository import ConnectorRepository
from sinas.resources.connectors.schemas import MAX_OPERATIONS, ConnectorCreate, ConnectorUpdate


class ConnectorService(CrudService[Connector, ConnectorCreate, ConnectorUpdate]):
    """Operations on connectors, for one caller."""

    repository = ConnectorRepository
    noun = "connector"
    rows: ConnectorRepository

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Connector]:
        """Connectors the caller may read, newest first; of one namespace if told."""
        return await self.rows.listed(namespace, skip=skip, limit=limit)

    @override
    async def create(self, data: ConnectorCreate) -> Connector:
        configs = [operation.stored() for operation in data.operations]
        self._require_create(data.namespace, data.name)
        await _checked(configs, {})
        row = Connector(
            user_id=self.principal.user_id,
            namespace=data.namespace,
            name=data.name,
            description=data.description,
            base_url=data.base_url,
            auth=data.auth.stored(),
            headers=dict(data.headers),
            retry=data.retry.model_dump(),
            timeout_seconds=data.timeout_seconds,
            is_active=data.is_active,
            operation_rows=_rows(configs),
            addressed_by=self.principal.user_id,
            trust=self._trust(),
        )
        self.rows.add(row)
        await self.flush(data.namespace, data.name)
        return row

    @override
    async def update(self, namespace: str, name: str, data: ConnectorUpdate) -> Connector:
        row = await self.changeable(namespace, name, "update")
        values = self._storable(data.model_dump(include=data.model_fields_set))
        renamed = (values.get("namespace", namespace), values.get("name", name))
        if renamed != (namespace, name):
            self._require_create(*renamed)
        values.pop("operations", None)
        if data.auth is not None:
            values["auth"] = data.auth.stored()
        if any(values.get(key, held) != held for key, held in _address(row).items()):
            # Whoever says where credentials go answers for it, not whoever made the connector.
            row.addressed_by, row.trust = self.principal.user_id, self._trust()
        for key, value in values.items():
            setattr(row, key, value)
        if data.operations is not None:
            configs = [operation.stored() for operation in data.operations]
            await _checked(configs, {one.name: one.config for one in row.operation_rows})
            self._replace(row, configs)
        await self._stamped(row, *renamed)
        return row

    async def merge(self, namespace: str, name: str, configs: Sequence[JsonObject]) -> Connector:
        """Add operations that were checked, over those of the same name.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but no update grant.
            BadRequestError: They would be too many.
        """
        row = await self.changeable(namespace, name, "update")
        merged = {str(config["name"]): config for config in (*row.operations, *configs)}
        if len(merged) > MAX_OPERATIONS:
            raise BadRequestError(
                f"The connector would have {len(merged)} operations; the limit is "
                f"{MAX_OPERATIONS}. Choose some with `operations`."
            )
        self._replace(row, list(merged.values()))
        await self._stamped(row, namespace, name)
        return row

    async def require_changeable(self, namespace: str, name: str) -> None:
        """Raise as `merge` would, before work is done for it."""
        if await self.rows.by_name(namespace, name, "update") is None:
            await self.get(namespace, name)
            raise ForbiddenError(f"Not authorized to update connector '{namespace}/{name}'.")

    @override
    async def changeable(self, namespace: str, name: str, action: str) -> Connector:
        """The row, locked: two changes of its operations at once would lose one."""
        row = await self.rows.locked(namespace, name, action)
        if row is None:
            await self.get(namespace, name)
            raise ForbiddenError(f"Not authorized to {action} connector '{namespace}/{name}'.")
        return row

    def _replace(self, row: Connector, configs: Sequence[JsonObject]) -> None:
        known = {one.name: one for one in row.operation_rows}
        kept = []
        for place, config in enumerate(configs):
            # A row that stays is changed: SQLAlchemy inserts before it deletes, and the name
            # would be taken.
            one = known.get(str(config["name"])) or ConnectorOperation(name=config["name"])
            one.position = place
            if one.config != config:
                one.config = config
            kept.append(one)
        row.operation_rows = kept

    async def _stamped(self, row: Connector, namespace: str, name: str) -> None:
        # Also when only operations changed, which are other rows.
        row.updated_at = func.now()
        await self.flush(namespace, name)
        await self.unit.session.refresh(row, ["updated_at"])

    def _trust(self) -> ConnectorTrust:
        """With an API key's limit: one that may only make connectors is no way to secrets."""
        if self.principal.can("sinas.secrets.update:all"):
            return ConnectorTrust.ALL
        is_own = self.principal.can("sinas.secrets.update:own")
        return ConnectorTrust.OWN if is_own else ConnectorTrust.NONE

    def _require_create(self, namespace: str, name: str) -> None:
        if not self.principal.can_create("connectors", namespace, name):
            raise ForbiddenError(
                f"Not authorized to create connector '{namespace}/{name}': this needs "
                f"'sinas.connectors/{namespace}/{name}.create:own'."
            )


async def _checked(configs: list[JsonObject], known: dict[str, JsonObject]) -> None:
    # A thread: a thousand schemas take seconds.
    await asyncio.to_thread(check_operations, configs, known)


def _address(row: Connector) -> dict[str, Any]:
    return {"base_url": row.base_url, "auth": row.auth}


def _rows(configs: Sequence[JsonObject]) -> list[Any]:
    return [
        ConnectorOperation(position=place, name=config["name"], config=config)
        for place, config in enumerate(configs)
    ]

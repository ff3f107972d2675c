"""Which operations there are for whom: the queries behind calls and tools."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.authenticate import PRINCIPAL_COLUMNS, deferred_principal
from sinas.auth.principal import Principal
from sinas.crud.references import matching
from sinas.egress.urls import parse_url
from sinas.kit.json_types import JsonObject
from sinas.models import (
    Agent,
    Connector,
    ConnectorOperation,
    ConnectorTrust,
    SecretVisibility,
    User,
)
from sinas.resources.connectors.enabled import EnabledConnectors

_CONNECTOR = (
    Connector.id.label("connector_id"),
    Connector.user_id.label("author"),
    *(Connector.namespace, Connector.name, Connector.base_url, Connector.auth),
    *(Connector.headers, Connector.retry, Connector.timeout_seconds, Connector.is_active),
    *(Connector.addressed_by, Connector.trust),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a call needs to know of a connector.

    Attributes:
        addressed_by: Who said where it is and how it is signed in to, with what trust.
        addresser: They, with the rights they hold now; None when deactivated.
        is_elsewhere: Whether `base_url` is an operation's own, on another origin.
    """

    id: UUID
    user_id: UUID
    namespace: str
    name: str
    base_url: str
    auth: JsonObject
    headers: JsonObject = field(repr=False)
    retry: JsonObject
    timeout_seconds: int
    is_active: bool
    addressed_by: UUID
    trust: ConnectorTrust
    addresser: Principal | None
    is_elsewhere: bool = False

    @property
    def reference(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def is_readable_by(self, reader: Principal) -> bool:
        """Whether `reader` may read the connector, and so use it."""
        is_own = reader.user_id == self.user_id
        return reader.can_on("connectors", self.namespace, self.name, "read", own=is_own)

    def may_send_for(self, user_id: UUID, kind: SecretVisibility) -> bool:
        """Whether the connector may get what belongs to a user, or to everybody.

        That is for whoever chose where it goes: about what is theirs they may decide, about what
        is others' and everybody's only if they may change it anyway.
        """
        if self.addresser is None or self.trust is ConnectorTrust.NONE:
            return False
        if kind is SecretVisibility.PRIVATE and self.addressed_by == user_id:
            return True
        is_in_charge = self.addresser.can("sinas.secrets.update:all")
        return self.trust is ConnectorTrust.ALL and is_in_charge

    def at(self, base_url: str) -> "Target":
        """The same for an operation that is elsewhere."""
        moved = _origin(base_url) != _origin(self.base_url)
        return replace(self, base_url=base_url, is_elsewhere=moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """An operation an agent may use."""

    connector_id: UUID
    namespace: str
    name: str
    operation: JsonObject

    @property
    def reference(self) -> str:
        """`namespace/name` of the connector."""
        return f"{self.namespace}/{self.name}"


async def target_by_name(session: AsyncSession, namespace: str, name: str) -> Target | None:
    """A connector, whoever asks; one query."""
    return await _target(session, and_(Connector.namespace == namespace, Connector.name == name))


async def target_by_id(session: AsyncSession, connector_id: UUID) -> Target | None:
    """A connector, whoever asks; one query."""
    return await _target(session, Connector.id == connector_id)


async def operation_of(session: AsyncSession, connector_id: UUID, name: str) -> JsonObject | None:
    """An operation as it is now."""
    statement = select(ConnectorOperation.config).where(
        ConnectorOperation.connector_id == connector_id, ConnectorOperation.name == name
    )
    return await session.scalar(statement)


async def offered(
    session: AsyncSession, agent: Agent, caller: Principal, enabled: EnabledConnectors
) -> Sequence[Offered]:
    """Operations of active connectors that an agent enables, by connector, in their order.

    Of connectors that the agent's owner, or the caller, may read: they are a part of what the
    owner made, as the prompt is. One query.
    """
    owner = select(*PRINCIPAL_COLUMNS).where(User.id == agent.user_id, User.is_active).cte("owner")
    # Or the owner's rights would be gathered anew for every operation.
    owner = owner.prefix_with("MATERIALIZED")
    statement = (
        select(
            *(Connector.id.label("connector_id"), Connector.user_id.label("author")),
            *(Connector.namespace, Connector.name, ConnectorOperation.config, *owner.c),
        )
        .join(ConnectorOperation, ConnectorOperation.connector_id == Connector.id)
        .outerjoin(owner, true())
        .where(Connector.is_active, or_(*(_enabled(*each) for each in enabled.references())))
        .order_by(Connector.namespace, Connector.name, ConnectorOperation.position)
    )
    rows = (await session.execute(statement)).all()
    readable: dict[UUID, bool] = {}
    found = []
    for row in rows:
        if row.connector_id not in readable:
            readable[row.connector_id] = _may_use(row, caller)
        if readable[row.connector_id]:
            found.append(
                Offered(
                    connector_id=row.connector_id,
                    namespace=row.namespace,
                    name=row.name,
                    operation=row.config,
                )
            )
    return found


def _enabled(reference: str, operations: Sequence[str]) -> ColumnElement[bool]:
    named = matching(Connector, [reference])
    return and_(named, ConnectorOperation.name.in_(operations)) if operations else named


def _may_use(row: Row[*tuple[Any, ...]], caller: Principal) -> bool:
    found = row._asdict()
    readers = [caller]
    if found["id"] is not None:
        readers.append(deferred_principal(found, None))
    return any(
        reader.can_on(
            "connectors", row.namespace, row.name, "read", own=reader.user_id == found["author"]
        )
        for reader in readers
    )


async def _target(session: AsyncSession, wanted: ColumnElement[bool]) -> Target | None:
    statement = (
        select(*_CONNECTOR, *PRINCIPAL_COLUMNS)
        .outerjoin(User, and_(User.id == Connector.addressed_by, User.is_active))
        .where(wanted)
    )
    row = (await session.execute(statement)).first()
    if row is None:
        return None
    found = row._asdict()
    return Target(
        id=row.connector_id,
        user_id=row.author,
        namespace=row.namespace,
        name=row.name,
        base_url=row.base_url,
        auth=row.auth,
        headers=row.headers,
        retry=row.retry,
        timeout_seconds=row.timeout_seconds,
        is_active=row.is_active,
        addressed_by=row.addressed_by,
        trust=row.trust,
        addresser=None if found["id"] is None else deferred_principal(found, None),
    )


def _origin(base_url: str) -> tuple[str, bytes, int | None]:
    url = parse_url(base_url)
    return url.scheme, url.raw_host.lower(), url.port

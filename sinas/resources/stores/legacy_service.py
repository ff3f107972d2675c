"""Rules of `/states`: states by namespace, for clients that know no stores.

The states of namespace `crm` are those of the store `crm/default`. The first write to a
namespace makes the store, if the writer may create it; it belongs to nobody then, so that its
first writer cannot delete what others keep in it.

`sinas.states/{namespace}.create`, `read`, `update` and `delete` grant what the names say. So do
the rights on the store: `read_state` to read, `write_state` for the others; those are what the
default role Users has. With `:own` a caller changes their own states and reads also what others
share; with `:all` they do it to everybody's, where writing takes the right on `states`.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, or_, select

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.crypto import Cipher
from sinas.models import State, StateVisibility, Store, UserRole
from sinas.resources.stores.legacy_schemas import (
    LegacyVisibility,
    NamespacedStateCreate,
    NamespacedStateRead,
    NamespacedStateUpdate,
)
from sinas.resources.stores.repository import make_store
from sinas.resources.stores.state_queries import Filter, living, own_or_shared, rows_of
from sinas.resources.stores.state_schemas import StateCreate, StateDeleted, StateUpdate
from sinas.resources.stores.states import Found, Row, States
from sinas.resources.stores.values import Rules, unpacked

STORE_NAME: Final = "default"
STORE_ACTIONS: Final = {
    "create": "write_state",
    "read": "read_state",
    "update": "write_state",
    "delete": "write_state",
}
_OWN_FIELDS = {"namespace", "visibility", "group_id", "assistant_id"}


class NamespacedStates:
    """States by namespace, for one caller, over a unit of single statements."""

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        self.unit = unit
        self.principal = principal
        self.cipher = cipher
        self.states = States(unit, principal.user_id, cipher)

    async def create(self, data: NamespacedStateCreate) -> NamespacedStateRead:
        """A new state of the caller.

        Raises:
            ForbiddenError: No right to create states in the namespace, or it is new and the
                caller may not create its store.
            DuplicateError: The caller has a state of that key.
            InvalidInputError: No `group_id` for `group`, or it is no role of the caller's; or
                it holds what cannot be stored.
            BadRequestError: The store is strict and refuses it.
            PayloadTooLargeError: Its value is too large.
        """
        self._require("create", data.namespace)
        readers = await self._readers(data.visibility, data.group_id, None)

        async def find() -> Rules:
            return await self._store(data.namespace)

        plain = StateCreate(**data.model_dump(exclude=_OWN_FIELDS))
        more = {**readers, "assistant_id": data.assistant_id}
        store, row = await self.states.create(find, plain, **more)
        return self._read(store.namespace, row)

    async def get(self, state_id: UUID) -> NamespacedStateRead:
        """A state the caller may read.

        Raises:
            NotFoundError: There is none of that id for the caller.
        """
        row = await self._visible(state_id)
        return self._read(row["store_namespace"], row)

    async def page(
        self,
        wanted: Filter,
        *,
        namespace: str | None,
        visibility: LegacyVisibility | None,
        assistant_id: str | None,
        skip: int,
        limit: int,
    ) -> Sequence[NamespacedStateRead]:
        """States the caller may read, most relevant first.

        Raises:
            ForbiddenError: A namespace was named of which the caller may read nothing.
        """
        if namespace is not None:
            self._require("read", namespace)
        conditions = [await self._scope(namespace), wanted.condition()]
        if visibility is not None:
            conditions.append(_has(visibility))
        if assistant_id is not None:
            conditions.append(State.assistant_id == assistant_id)
        statement = living(*conditions).offset(skip).limit(limit)
        rows = await rows_of(self.unit.session, statement)
        return [self._read(row["store_namespace"], row) for row in rows]

    async def update(self, state_id: UUID, data: NamespacedStateUpdate) -> NamespacedStateRead:
        """Change a state.

        Raises:
            NotFoundError: There is none of that id for the caller.
            ForbiddenError: The caller reads it, and may not change it.
            InvalidInputError: As for `create`.
            BadRequestError: The store is strict and refuses the value.
            PayloadTooLargeError: The value is too large.
        """
        row = await self._changeable(state_id, "update")
        more: dict[str, Any] = {}
        if data.visibility is not None or data.group_id is not None:
            visibility = data.visibility or _visibility(row)
            more = await self._readers(visibility, data.group_id, row["group_id"])

        async def find() -> Found:
            return Found.of(await self._changeable(state_id, "update"))

        plain = StateUpdate(
            **data.model_dump(exclude={"visibility", "group_id"}, exclude_unset=True)
        )
        store, changed = await self.states.update(find, plain, **more)
        return self._read(store.namespace, changed)

    async def delete(self, state_id: UUID) -> StateDeleted:
        """Delete a state.

        Raises:
            NotFoundError: There is none of that id for the caller.
            ForbiddenError: The caller reads it, and may not delete it.
        """
        row = await self._changeable(state_id, "delete")
        await self.unit.session.execute(delete(State).where(State.id == state_id))
        return StateDeleted(
            message=f"State '{row['key']}' deleted from namespace '{row['store_namespace']}'"
        )

    def _may(self, action: str, namespace: str, scope: str = "own") -> bool:
        wanted = [f"sinas.states/{namespace}.{action}:{scope}", f"sinas.states.{action}:{scope}"]
        if scope == "own" or action == "read":
            store = f"sinas.stores/{namespace}/{STORE_NAME}"
            wanted.append(f"{store}.{STORE_ACTIONS[action]}:{scope}")
        return any(map(self.principal.can, wanted))

    def _require(self, action: str, namespace: str) -> None:
        if not self._may(action, namespace):
            raise ForbiddenError(
                f"Not authorized: this needs the permission "
                f"'sinas.states/{namespace}.{action}:own'."
            )

    async def _store(self, namespace: str) -> Rules:
        try:
            return await self.states.store(namespace, STORE_NAME)
        except NotFoundError:
            may_create = self.principal.can_create("stores", namespace, STORE_NAME)
            if not may_create and not self.principal.can(f"sinas.states/{namespace}.create:own"):
                raise ForbiddenError(
                    f"Namespace '{namespace}' has no states yet; to begin it takes "
                    f"'sinas.stores/{namespace}/{STORE_NAME}.create:own'."
                ) from None
        await make_store(self.unit.session, namespace, STORE_NAME)
        return await self.states.store(namespace, STORE_NAME)

    async def _readers(
        self, visibility: LegacyVisibility, group_id: UUID | None, old_group_id: UUID | None
    ) -> dict[str, Any]:
        """The columns that say who reads a state."""
        match visibility:
            case LegacyVisibility.PUBLIC:
                return {"visibility": StateVisibility.SHARED, "group_id": None}
            case LegacyVisibility.PRIVATE:
                return {"visibility": StateVisibility.PRIVATE, "group_id": None}
            case LegacyVisibility.GROUP:
                group = group_id or old_group_id
                if group is None or (group != old_group_id and not await self._is_in(group)):
                    message = "must be the id of a role of yours when visibility is 'group'"
                    raise InvalidInputError(
                        f"group_id {message}.", [FieldError("group_id", message)]
                    )
                return {"visibility": StateVisibility.PRIVATE, "group_id": group}

    async def _is_in(self, role_id: UUID) -> bool:
        mine = select(UserRole.role_id).where(
            UserRole.role_id == role_id,
            UserRole.user_id == self.principal.user_id,
            UserRole.active,
        )
        return await self.unit.session.scalar(mine) is not None

    def _readers_condition(self) -> ColumnElement[bool]:
        """SQL: states that are the caller's, everybody's, or their role's."""
        me = self.principal.user_id
        roles = select(UserRole.role_id).where(UserRole.user_id == me, UserRole.active)
        return or_(own_or_shared(me), State.group_id.in_(roles))

    async def _scope(self, namespace: str | None) -> ColumnElement[bool]:
        """SQL: states the caller may read; of one namespace if told."""
        stores = select(Store.id, Store.namespace).where(Store.name == STORE_NAME)
        if namespace is not None:
            stores = stores.where(Store.namespace == namespace)
        found = (await self.unit.session.execute(stores)).all()
        every = [key for key, name in found if self._may("read", name, "all")]
        some = [key for key, name in found if self._may("read", name)]
        return or_(
            State.store_id.in_(every), and_(State.store_id.in_(some), self._readers_condition())
        )

    async def _visible(self, state_id: UUID, action: str = "read") -> Row:
        mine = self._readers_condition().label("is_for_caller")
        statement = living(State.id == state_id, Store.name == STORE_NAME).add_columns(mine)
        for row in await rows_of(self.unit.session, statement):
            namespace = row["store_namespace"]
            scope = "own" if row["is_for_caller"] else "all"
            if any(self._may(each, namespace, scope) for each in ("read", action)):
                return row
        raise NotFoundError(f"State '{state_id}' not found")

    async def _changeable(self, state_id: UUID, action: str) -> Row:
        row = await self._visible(state_id, action)
        scope = "own" if row["user_id"] == self.principal.user_id else "all"
        if not self._may(action, row["store_namespace"], scope):
            raise ForbiddenError(f"Not authorized to {action} state '{state_id}'.")
        return row

    def _read(self, namespace: str, row: Row) -> NamespacedStateRead:
        return NamespacedStateRead(
            **{name: row[name] for name in _SHOWN},
            namespace=namespace,
            visibility=_visibility(row),
            value=unpacked(self.cipher, row),
        )


_SHOWN = tuple(
    name
    for name in NamespacedStateRead.model_fields
    if name not in ("namespace", "visibility", "value")
)


def _visibility(row: Row) -> LegacyVisibility:
    if row["visibility"] == StateVisibility.SHARED:
        return LegacyVisibility.PUBLIC
    return LegacyVisibility.PRIVATE if row["group_id"] is None else LegacyVisibility.GROUP


def _has(visibility: LegacyVisibility) -> ColumnElement[bool]:
    is_private = State.visibility == StateVisibility.PRIVATE
    match visibility:
        case LegacyVisibility.PUBLIC:
            return State.visibility == StateVisibility.SHARED
        case LegacyVisibility.GROUP:
            return and_(is_private, State.group_id.is_not(None))
        case LegacyVisibility.PRIVATE:
            return and_(is_private, State.group_id.is_(None))

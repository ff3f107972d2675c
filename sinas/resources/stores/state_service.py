"""Rules of states in a named store: who reads and writes what."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, true

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import BadRequestError, FieldError
from sinas.kit.crypto import Cipher
from sinas.models import State, Store
from sinas.resources.stores import statements
from sinas.resources.stores.state_queries import Filter, living, own_or_shared, rows_of
from sinas.resources.stores.state_schemas import StateCreate, StateDeleted, StateRead, StateUpdate
from sinas.resources.stores.states import Found, States, missing_state, missing_store
from sinas.resources.stores.values import Rules


class StateService:
    """States for one caller, over a unit of single statements.

    The right is asked before the store is looked up, so that a refusal tells nothing about it.
    Everybody writes only states of their own, and reads those and what others share.
    """

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        self.unit = unit
        self.principal = principal
        self.states = States(unit, principal.user_id, cipher)

    async def create(self, namespace: str, name: str, data: StateCreate) -> StateRead:
        """A new state of the caller.

        Raises:
            ForbiddenError: No right to write states of that store.
            NotFoundError: No such store.
            DuplicateError: The caller has a state of that key.
            BadRequestError: The store is strict and refuses it.
            InvalidInputError: It holds what cannot be stored.
            PayloadTooLargeError: Its value is too large.
        """
        self._require(namespace, name, "write_state")

        async def find() -> Rules:
            return await self.states.store(namespace, name)

        return self.states.read(*await self.states.create(find, data))

    async def get(self, namespace: str, name: str, key: str) -> StateRead:
        """The caller's own state of a key, else the shared one that was written last.

        Raises:
            ForbiddenError: No right to read states of that store.
            NotFoundError: No such store, or no such state.
        """
        self._require(namespace, name, "read_state")
        found = await self.states.find(namespace, name, key, own=False)
        if found.state is None:
            raise missing_state(namespace, name, key)
        return self.states.read(found.store, found.state)

    async def page(
        self, namespace: str, name: str, wanted: Filter, owner: str | None, *, skip: int, limit: int
    ) -> Sequence[StateRead]:
        """States of a store, most relevant first.

        The caller's own and what others share. With `read_state:all`: the caller's own, those of
        the user `owner`, or with `all` everybody's.

        Raises:
            ForbiddenError: No right to read states of that store.
            NotFoundError: No such store.
            BadRequestError: `owner` is neither `me`, `all` nor an id.
        """
        self._require(namespace, name, "read_state")
        statement = living(
            Store.namespace == namespace,
            Store.name == name,
            self._owned(namespace, name, owner),
            wanted.condition(),
        )
        rows = await rows_of(self.unit.session, statement.offset(skip).limit(limit))
        if not rows:
            await self.states.store(namespace, name)
        return [self.states.read(Rules.of(row), row) for row in rows]

    async def update(self, namespace: str, name: str, key: str, data: StateUpdate) -> StateRead:
        """Change the caller's own state of a key.

        Raises:
            ForbiddenError: No right to write states of that store.
            NotFoundError: No such store, or no such state of the caller.
            BadRequestError: The store is strict and refuses the value.
            InvalidInputError: The value holds what cannot be stored.
            PayloadTooLargeError: The value is too large.
        """
        self._require(namespace, name, "write_state")

        async def find() -> Found:
            found = await self.states.find(namespace, name, key, own=True)
            if found.state is None:
                raise missing_state(namespace, name, key)
            return found

        return self.states.read(*await self.states.update(find, data))

    async def save(
        self, namespace: str, name: str, data: StateCreate, given: Collection[str]
    ) -> StateRead:
        """A new state of the caller, or the value and the `given` fields over the one there.

        Raises as `create` does, but for `DuplicateError`.
        """
        self._require(namespace, name, "write_state")

        async def find() -> Found:
            return await self.states.find(namespace, name, data.key, own=True)

        return self.states.read(*await self.states.save(find, data, given))

    async def delete(self, namespace: str, name: str, key: str) -> StateDeleted:
        """Delete the caller's own state of a key.

        Raises:
            ForbiddenError: No right to write states of that store.
            NotFoundError: No such store, or no such state of the caller.
        """
        self._require(namespace, name, "write_state")
        row = await self.unit.one(
            statements.REMOVE,
            {
                "in_namespace": namespace,
                "in_name": name,
                "wanted_key": key,
                "of_user": self.principal.user_id,
            },
        )
        if not row["has_store"]:
            raise missing_store(namespace, name)
        if row["id"] is None:
            raise missing_state(namespace, name, key)
        return StateDeleted(message=f"State '{key}' deleted from store '{namespace}/{name}'")

    def _require(self, namespace: str, name: str, action: str) -> None:
        self.principal.require(f"sinas.stores/{namespace}/{name}.{action}:own")

    def _owned(self, namespace: str, name: str, owner: str | None) -> ColumnElement[bool]:
        me = self.principal.user_id
        if not self.principal.can(f"sinas.stores/{namespace}/{name}.read_state:all"):
            return own_or_shared(me)
        match owner:
            case None | "me":
                return State.user_id == me
            case "all":
                return true()
            case _:
                return State.user_id == _user_id(owner)


def _user_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        message = "must be 'me', 'all' or a user's id"
        raise BadRequestError(f"owner {message}", [FieldError("owner", message)]) from None

"""States of one user: reading and writing them, for callers whose rights were checked."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sinas.db.unit import Unit
from sinas.errors import ConflictError, DuplicateError, NotFoundError
from sinas.kit.crypto import Cipher
from sinas.kit.ids import uuid7
from sinas.resources.stores import statements
from sinas.resources.stores.state_schemas import StateCreate, StateRead, StateUpdate
from sinas.resources.stores.values import Rules, packed, unpacked

Row = Mapping[str, Any]
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A store, and a state in it if there is one that fits."""

    store: Rules
    state: Row | None

    @classmethod
    def of(cls, row: Row) -> "Found":
        """From a row with the columns of both."""
        return cls(Rules.of(row), row if row["id"] is not None else None)


Find = Callable[[], Awaitable[Found]]


def missing_store(namespace: str, name: str) -> NotFoundError:
    """The error for a store that is not there."""
    return NotFoundError(f"Store '{namespace}/{name}' not found")


def missing_state(namespace: str, name: str, key: str) -> NotFoundError:
    """The error for a state that is not there, or is not to be seen."""
    return NotFoundError(f"State '{key}' not found in store '{namespace}/{name}'")


class States:
    """What `user_id` does with states. A unit of single statements: each write is one."""

    def __init__(self, unit: Unit, user_id: UUID, cipher: Cipher) -> None:
        self.unit = unit
        self.user_id = user_id
        self.cipher = cipher

    async def store(self, namespace: str, name: str) -> Rules:
        """A store by name.

        Raises:
            NotFoundError: There is none.
        """
        row = await self.unit.one(
            statements.READ_STORE, {"in_namespace": namespace, "in_name": name}
        )
        if row is None:
            raise missing_store(namespace, name)
        return Rules.of(row)

    async def find(self, namespace: str, name: str, key: str, *, own: bool) -> Found:
        """A store, and the user's own state of a key, or else a shared one unless `own`.

        Raises:
            NotFoundError: There is no such store.
        """
        statement = statements.READ_OWN if own else statements.READ
        row = await self.unit.one(
            statement,
            {
                "in_namespace": namespace,
                "in_name": name,
                "wanted_key": key,
                "of_user": self.user_id,
            },
        )
        if row is None:
            raise missing_store(namespace, name)
        return Found.of(row)

    async def add(self, store: Rules, data: StateCreate, **more: Any) -> Row | None:
        """A new state of the user; None where the store has changed since it was read.

        Raises:
            DuplicateError: The user has a state of that key.
            BadRequestError: The store is strict and refuses it.
            InvalidInputError: It holds what cannot be stored.
            PayloadTooLargeError: Its value is too large.
        """
        await store.check(data.key, data.value)
        values = {
            **data.model_dump(exclude={"value", "encrypted"}),
            **await packed(self.cipher, data.value, encrypted=data.encrypted or store.encrypted),
            "visibility": data.visibility or store.default_visibility,
            "group_id": None,
            "assistant_id": None,
            **more,
            "id": uuid7(),
            "user_id": self.user_id,
        }
        row: Row = await self.unit.one(
            statements.ADD,
            {
                "in_store": store.id,
                "store_encrypted": store.encrypted,
                **{f"new_{name}": value for name, value in values.items()},
            },
        )
        if not row["has_store"]:
            return None
        if row["id"] is None:
            raise DuplicateError(f"State '{data.key}' already exists in store '{store.reference}'.")
        return row

    async def create(
        self, find: Callable[[], Awaitable[Rules]], data: StateCreate, **more: Any
    ) -> tuple[Rules, Row]:
        """A new state in the store that `find` finds. Raises as `add` and `find` do."""
        for _ in range(_ATTEMPTS):
            store = await find()
            if (row := await self.add(store, data, **more)) is not None:
                return store, row
        raise _contended()

    async def change(
        self, found: Found, data: StateUpdate, *, sets_null: bool = False, **more: Any
    ) -> Row | None:
        """Change a state that was found; None where it, or its store, has changed since.

        A value of null is none to set, unless `sets_null`.

        Raises:
            BadRequestError: The store is strict and refuses the new value.
            InvalidInputError: It holds what cannot be stored.
            PayloadTooLargeError: The value is too large.
        """
        store, state = found.store, found.state
        assert state is not None
        changes = _given(data) | more
        is_encrypted = bool(state["encrypted"]) if data.encrypted is None else data.encrypted
        is_encrypted = is_encrypted or store.encrypted
        keeps_value = data.value is None and not sets_null
        if not keeps_value:
            await store.check(state["key"], data.value)
        if not keeps_value or is_encrypted != state["encrypted"]:
            value = unpacked(self.cipher, state) if keeps_value else data.value
            changes |= await packed(self.cipher, value, encrypted=is_encrypted)
        if not changes:
            return state
        statement = statements.change(
            frozenset(changes),
            unless_changed=keeps_value and "value" in changes,
            decrypts=bool(state["encrypted"]) and not is_encrypted,
        )
        row: Row | None = await self.unit.one(
            statement,
            {
                "in_store": store.id,
                "store_encrypted": store.encrypted,
                "state_id": state["id"],
                "was_encrypted": state["encrypted"],
                "seen_at": state["updated_at"],
                **{f"new_{name}": value for name, value in changes.items()},
            },
        )
        return row

    async def save(
        self, find: Find, data: StateCreate, given: Collection[str]
    ) -> tuple[Rules, Row]:
        """A new state in the store that `find` finds, or the `given` fields over the one there.

        Raises as `add`, `change` and `find` do.
        """
        update = StateUpdate(**data.model_dump(include={"value", *given}))
        for _ in range(_ATTEMPTS):
            found = await find()
            if found.state is not None:
                row = await self.change(found, update, sets_null=True)
            else:
                try:
                    row = await self.add(found.store, data)
                except DuplicateError:
                    continue  # somebody was faster
            if row is not None:
                return found.store, row
        raise _contended()

    async def update(self, find: Find, data: StateUpdate, **more: Any) -> tuple[Rules, Row]:
        """Change the state that `find` finds. Raises as `change` and `find` do."""
        for _ in range(_ATTEMPTS):
            found = await find()
            if (row := await self.change(found, data, **more)) is not None:
                return found.store, row
        raise _contended()

    def read(self, store: Rules, row: Row) -> StateRead:
        """A state in clear.

        Raises:
            UnreadableStateError: It was encrypted under another key.
        """
        return StateRead(
            **{name: row[name] for name in _SHOWN},
            store_id=store.id,
            store_namespace=store.namespace,
            store_name=store.name,
            value=unpacked(self.cipher, row),
        )


_SHOWN = tuple(
    name
    for name in StateRead.model_fields
    if name not in ("store_id", "store_namespace", "store_name", "value")
)
# Fields for which null says something.
_EMPTIED = frozenset({"description", "expires_at"})


def _given(data: StateUpdate) -> dict[str, Any]:
    """Columns to change, apart from the value and its encryption."""
    values = data.model_dump(exclude_unset=True, exclude={"value", "encrypted"})
    return {name: v for name, v in values.items() if v is not None or name in _EMPTIED}


def _contended() -> ConflictError:
    return ConflictError("The state is being changed by others; try again.")

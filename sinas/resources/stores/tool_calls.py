"""Running the store tools: over the stores that were offered, and no others."""

from collections.abc import Sequence
from dataclasses import dataclass

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import (
    BadRequestError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
)
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.resources.stores.enabled import EnabledStore
from sinas.resources.stores.state_queries import Filter, best_of, counts_of, keys_of
from sinas.resources.stores.state_schemas import StateCreate
from sinas.resources.stores.state_service import StateService
from sinas.resources.stores.states import Row
from sinas.resources.stores.tool_arguments import Delete, ListKeys, Retrieve, Save, parsed
from sinas.resources.stores.values import unpacked
from sinas.tools.base import Call, Failed, Ok, Retry, ToolResult


@dataclass(frozen=True, slots=True)
class StoreCalls:
    """Calls by one caller."""

    context: AppContext
    caller: Principal
    stores: Sequence[EnabledStore]

    async def list_keys(self, call: Call) -> ToolResult:
        """The keys of one store, or how many each has."""
        given = parsed(ListKeys, call.arguments)
        if isinstance(given, Retry):
            return given
        wanted = Filter(search=given.search, tags=given.tags)
        if given.store is None:
            return Ok(await self._counts(wanted))
        store = self._named(given.store)
        if store is None:
            return self._elsewhere(given.store)
        async with self.context.statement_sessions() as session:
            rows = await keys_of(session, self.caller.user_id, store.rules.id, wanted, given.limit)
        keys: list[JsonValue] = [_key(row) for row in rows]
        return Ok({"store": given.store, "keys": keys, "count": len(keys)})

    async def retrieve(self, call: Call) -> ToolResult:
        """States with their values."""
        given = parsed(Retrieve, call.arguments)
        if isinstance(given, Retry):
            return given
        store = None if given.store is None else self._named(given.store)
        if given.store is not None and store is None:
            return self._elsewhere(given.store)
        wanted = Filter(search=given.search, tags=given.tags, key=given.key)
        searched = self.stores if store is None else [store]
        ids = [each.rules.id for each in searched]
        async with self.context.statement_sessions() as session:
            rows = await best_of(session, self.caller.user_id, ids, wanted, given.limit)
        if not rows:
            return Ok({"success": True, "message": "Nothing is stored that fits.", "states": []})
        states: list[JsonValue] = [self._state(row) for row in rows]
        return Ok({"success": True, "count": len(states), "states": states})

    async def save(self, call: Call) -> ToolResult:
        """Store a value over the one that is there."""
        given = parsed(Save, call.arguments)
        if isinstance(given, Retry):
            return given
        store = self._named(given.store, writable=True)
        if store is None:
            return self._elsewhere(given.store, writable=True)
        more = given.model_dump(include={"description", "tags", "visibility"}, exclude_none=True)
        data = StateCreate(key=given.key, value=given.value, **more)
        try:
            async with self.context.statement_unit() as unit:
                service = StateService(unit, self.caller, self.context.cipher)
                state = await service.save(
                    store.rules.namespace, store.rules.name, data, more.keys()
                )
        except _REFUSALS as error:
            return _refused(error)
        return Ok(
            {
                "success": True,
                "message": f"State '{given.key}' saved in store '{given.store}'.",
                "state_id": str(state.id),
                "value": state.value,
            }
        )

    async def delete(self, call: Call) -> ToolResult:
        """Delete the caller's own state; that there is none is no failure."""
        given = parsed(Delete, call.arguments)
        if isinstance(given, Retry):
            return given
        store = self._named(given.store, writable=True)
        if store is None:
            return self._elsewhere(given.store, writable=True)
        try:
            async with self.context.statement_unit() as unit:
                service = StateService(unit, self.caller, self.context.cipher)
                done = await service.delete(store.rules.namespace, store.rules.name, given.key)
        except NotFoundError:
            message = f"The user has no state '{given.key}' in store '{given.store}'."
            return Ok({"success": False, "message": message})
        except ForbiddenError as error:
            return _refused(error)
        return Ok({"success": True, "message": done.message})

    async def _counts(self, wanted: Filter) -> JsonObject:
        ids = [store.rules.id for store in self.stores]
        async with self.context.statement_sessions() as session:
            rows = await counts_of(session, self.caller.user_id, ids, wanted)
        in_all = {row["store_id"]: row["keys"] for row in rows if row["tag"] is None}
        stores: list[JsonValue] = [
            {
                "store": store.rules.reference,
                "key_count": in_all.get(store.rules.id, 0),
                "tags": {
                    row["tag"]: row["keys"]
                    for row in rows
                    if row["tag"] is not None and row["store_id"] == store.rules.id
                },
            }
            for store in self.stores
        ]
        return {"stores": stores, "total_keys": sum(in_all.values())}

    def _state(self, row: Row) -> JsonObject:
        return {
            "store": f"{row['store_namespace']}/{row['store_name']}",
            "key": row["key"],
            "value": unpacked(self.context.cipher, row),
            "description": row["description"],
            "tags": row["tags"],
            "visibility": str(row["visibility"]),
            "created_at": row["created_at"].isoformat(),
            "updated_at": row["updated_at"].isoformat(),
        }

    def _named(self, reference: str, *, writable: bool = False) -> EnabledStore | None:
        for store in self.stores:
            if store.rules.reference == reference and (store.is_writable or not writable):
                return store
        return None

    def _elsewhere(self, reference: str, *, writable: bool = False) -> Ok:
        """The answer to a call for a store that was not offered for that."""
        allowed: list[JsonValue] = [
            store.rules.reference for store in self.stores if store.is_writable or not writable
        ]
        deed = "written" if writable else "read"
        return Ok({"error": f"Store '{reference}' cannot be {deed}.", "allowed_stores": allowed})


_REFUSALS = (
    BadRequestError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
)


def _refused(error: Exception) -> ToolResult:
    match error:
        case ForbiddenError():
            return Failed("Permission denied", error.message)
        case NotFoundError():
            return Failed("Store not found", error.message)
        case _:
            return Retry(str(error))


def _key(row: Row) -> JsonObject:
    """A key; what it has not is left out."""
    shown: JsonObject = {"key": row["key"]}
    if row["description"]:
        shown["description"] = row["description"]
    if row["tags"]:
        shown["tags"] = row["tags"]
    return shown | {"updated_at": row["updated_at"].isoformat()}

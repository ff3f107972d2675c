"""Stores as tools: what an agent remembers from one chat to the next."""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.kit.json_types import JsonObject
from sinas.models import Agent
from sinas.resources.stores import tool_schemas as schemas
from sinas.resources.stores.enabled import enabled_stores
from sinas.resources.stores.tool_calls import StoreCalls
from sinas.tools.base import Call, Tool, ToolContext, ToolResult

_LIST = "Lists the keys of what is remembered, without the values."
_RETRIEVE = "Reads what is remembered, the most relevant first."
_SAVE = (
    "Remembers a value under a key, over the one that is there. What is left out of an existing "
    "state stays."
)
_DELETE = "Forgets the user's own state of a key."


class StoreTools:
    """Offers the states of enabled stores, with the rights of the caller."""

    kind = "store"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """Tools to read, and tools to write where a store may be written.

        One query, none for agents without stores.
        """
        if not agent.enabled_stores:
            return ()
        stores = await enabled_stores(session, agent, context.principal)
        if not stores:
            return ()
        calls = StoreCalls(self._context, context.principal, stores)
        writable = [store for store in stores if store.is_writable]
        tools = [
            _tool("list", "list_state_keys", _LIST, schemas.list_keys(stores), calls.list_keys),
            _tool(
                "retrieve",
                "retrieve_state",
                schemas.described(_RETRIEVE, stores),
                schemas.retrieve(stores),
                calls.retrieve,
            ),
        ]
        if writable:
            tools += [
                _tool(
                    "save",
                    "save_state",
                    schemas.described(_SAVE, writable),
                    schemas.save(writable),
                    calls.save,
                ),
                _tool("delete", "delete_state", _DELETE, schemas.delete(writable), calls.delete),
            ]
        return tools


def _tool(
    verb: str,
    name: str,
    description: str,
    parameters: JsonObject,
    run: Callable[[Call], Awaitable[ToolResult]],
) -> Tool:
    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        run=run,
        status_key=f"state:{name}",
        status=f"{verb.capitalize()} state",
        resource=("sinas", name),
        # Saving twice, or deleting what is gone, leaves what doing it once does.
        resumable=True,
        # Two writes to one key: the model's last one must win.
        sequential=verb in ("save", "delete"),
    )

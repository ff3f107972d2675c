"""Collections as tools: agents find, read, write and delete files in those they have enabled."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.crud.references import closest, matching
from sinas.kit.json_types import JsonObject
from sinas.models import Agent, Collection
from sinas.resources.files.search_tools import SearchCollection, search_tool
from sinas.resources.files.text_lines import MOST_LINES
from sinas.resources.files.tool_calls import FileCalls
from sinas.tools.base import Call, Tool, ToolContext, ToolResult
from sinas.tools.names import fitting

_FILENAME: Final[JsonObject] = {"type": "string", "description": "Name of the file."}
_GET: Final[JsonObject] = {
    "filename": _FILENAME,
    "offset": {"type": "integer", "minimum": 1, "description": "Number of the first line."},
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_LINES,
        "description": "How many lines.",
    },
}
_WRITE: Final[JsonObject] = {
    "filename": _FILENAME,
    "content": {"type": "string", "description": "All of the new content."},
    "visibility": {
        "type": "string",
        "enum": ["private", "shared"],
        "description": "Of a new file: for the user alone, or for everybody who may read the "
        "collection.",
    },
}
_EDIT: Final[JsonObject] = {
    "filename": _FILENAME,
    "old_string": {
        "type": "string",
        "description": "The text to replace, exactly as it is in the file, without line numbers. "
        "It must be there once, unless replace_all is set.",
    },
    "new_string": {"type": "string", "description": "The text in its place."},
    "replace_all": {"type": "boolean", "description": "Replace it wherever it is."},
}


class FileTools:
    """Offers the files of enabled collections, with the rights of the caller."""

    kind = "collection"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """Tools of each collection, to write only where agent and caller may.

        One query, none for agents without collections.
        """
        entries: Sequence[dict[str, Any]] = agent.enabled_collections
        references = [str(entry["collection"]) for entry in entries]
        if not references:
            return ()
        statement = (
            select(Collection.id, Collection.namespace, Collection.name)
            .where(matching(Collection, references))
            .order_by(Collection.namespace, Collection.name)
        )
        tools: dict[str, Tool] = {}
        for id_, namespace, name in (await session.execute(statement)).all():
            # Where entries are alike and differ, the lesser right counts.
            places = closest(references, namespace, name)
            may_write = all(entries[place].get("access") == "readwrite" for place in places)
            calls = FileCalls(
                context=self._context,
                principal=context.principal,
                chat_id=context.chat_id,
                namespace=namespace,
                name=name,
            )
            for tool in _tools(calls, may_write=may_write, taken=tools):
                tools[tool.name] = tool
            if _may(context.principal, f"{namespace}/{name}", ["download"]):
                search = SearchCollection(
                    context=self._context,
                    caller=context.principal,
                    collection_id=id_,
                    namespace=namespace,
                    name=name,
                )
                tool = search_tool(search, taken=tools)
                tools[tool.name] = tool
        return tuple(tools.values())


def _tools(calls: FileCalls, *, may_write: bool, taken: dict[str, Tool]) -> list[Tool]:
    reference = f"{calls.namespace}/{calls.name}"

    def may(*actions: str) -> bool:
        return _may(calls.principal, reference, actions)

    def tool(
        verb: str,
        status: str,
        description: str,
        properties: JsonObject,
        required: list[str],
        run: Callable[[Call], Awaitable[ToolResult]],
    ) -> Tool:
        plain = f"{verb}_file_{calls.namespace}_{calls.name}".replace("-", "_")
        return Tool(
            name=fitting(plain, reference, taken=taken),
            description=f"{description} The collection is '{reference}'.",
            parameters={"type": "object", "properties": properties, "required": [*required]},
            run=run,
            status_key=f"collection:{reference}",
            status=status,
            resource=(calls.namespace, calls.name),
            resumable=verb == "get",
            # Two changes of one file: the model's last one must win.
            sequential=verb != "get",
        )

    found = []
    if may("download"):
        description = (
            "Reads a file: text as numbered lines, pictures as such, the address of anything else."
        )
        found.append(tool("get", "Reading file", description, _GET, ["filename"], calls.get))
    if may_write and may("upload"):
        description = "Writes a text file: a new one, or a new version of the one of that name."
        wanted = ["filename", "content"]
        found.append(tool("write", "Writing file", description, _WRITE, wanted, calls.write))
    if may_write and may("upload", "download"):
        description = "Replaces a text in a file by another, as a new version."
        wanted = ["filename", "old_string", "new_string"]
        found.append(tool("edit", "Editing file", description, _EDIT, wanted, calls.edit))
    if may_write and may("delete_files"):
        description = "Deletes a file of the user with all its versions."
        properties: JsonObject = {"filename": _FILENAME}
        found.append(
            tool("delete", "Deleting file", description, properties, ["filename"], calls.delete)
        )
    return found


def _may(principal: Principal, reference: str, actions: Sequence[str]) -> bool:
    return all(principal.can(f"sinas.collections/{reference}.{action}:own") for action in actions)

"""Runs calls of the published SDK, in a Python that has it and not us.

Reads one JSON request a line and writes one JSON answer a line: each call has a thread of its own,
as in a program with several users. What the SDK returns is held against the types it declares.
"""

import dataclasses
import importlib
import inspect
import json
import sys
import threading
import traceback
import typing
from typing import Any

sinas: Any = importlib.import_module("sinas")
APIS = (
    *("auth", "state", "chats", "webhooks", "executions", "functions", "agents", "batches"),
    "templates",
    "files",
)


class Driver:
    """Clients and open iterators, by number."""

    def __init__(self) -> None:
        self._clients: dict[int, Any] = {}
        self._iterators: dict[int, Any] = {}
        self._lock = threading.Lock()

    def serve(self) -> None:
        for line in sys.stdin:
            request = json.loads(line)
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            answer["result"] = getattr(self, f"do_{request['do']}")(**request["with"])
        except sinas.SinasError as error:
            answer["error"] = {
                "type": type(error).__name__,
                "message": str(error),
                "status": getattr(error, "status_code", None),
                "response": getattr(error, "response", None),
            }
        except Exception:  # noqa: BLE001 - told to the test, which fails with it
            answer["fault"] = traceback.format_exc()
        with self._lock:
            sys.stdout.write(json.dumps(answer, default=_plain) + "\n")
            sys.stdout.flush()

    def do_open(self, **arguments: Any) -> int:
        client = sinas.SinasClient(use_env=False, **arguments)
        with self._lock:
            number = len(self._clients)
            self._clients[number] = client
        return number

    def do_close(self, client: int) -> None:
        self._clients.pop(client).close()

    def do_call(self, client: int, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function = _method(self._clients[client], method)
        found = function(*map(_given, args), **kwargs)
        if inspect.isgenerator(found):
            with self._lock:
                number = len(self._iterators)
                self._iterators[number] = found
            return number
        hint = typing.get_type_hints(function)["return"]
        problems = list(check(found, hint, method))
        assert not problems, problems
        return found

    def do_next(self, iterator: int) -> list[Any]:
        """The next item alone in a list; an empty one at the end."""
        for item in self._iterators[iterator]:
            return [item]
        return []

    def do_leave(self, iterator: int) -> None:
        self._iterators.pop(iterator).close()

    def do_methods(self) -> list[str]:
        client = sinas.SinasClient(base_url="http://nowhere", use_env=False)
        return [
            f"{api}.{name}"
            for api in APIS
            for name, _ in inspect.getmembers(getattr(client, api), inspect.ismethod)
            if not name.startswith("_")
        ]


def _method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


def _given(value: Any) -> Any:
    """An argument; `{"bytes": text}` are bytes, which JSON has not."""
    is_bytes = isinstance(value, dict) and value.keys() == {"bytes"}
    return value["bytes"].encode("latin-1") if is_bytes else value


def _plain(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else dataclasses.asdict(value)


def check(value: Any, hint: Any, where: str) -> typing.Iterator[str]:
    """In what `value` is not what `hint` says. Unions of shapes are met by any of them."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return
    if origin is typing.Union:
        tried = [list(check(value, each, where)) for each in inner]
        if all(tried):
            yield from tried[0]
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{where}: {value!r} is none of {inner}"
    elif typing.is_typeddict(hint):
        yield from _check_keys(value, hint, where)
    elif origin is list and isinstance(value, list):
        for number, each in enumerate(value):
            yield from check(each, inner[0], f"{where}[{number}]")
    elif origin is float or hint is float:
        if not isinstance(value, (int, float)):
            yield f"{where}: {value!r} is no number"
    elif not isinstance(value, origin or hint):
        yield f"{where}: {value!r} is no {hint}"


def _check_keys(value: Any, hint: Any, where: str) -> typing.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    for name, type_ in typing.get_type_hints(hint).items():
        if name not in value:
            yield f"{where}.{name} is missing"
        else:
            yield from check(value[name], type_, f"{where}.{name}")


if __name__ == "__main__":
    Driver().serve()

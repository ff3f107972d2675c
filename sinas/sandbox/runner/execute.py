"""One call of user code, in the process forked for it: from request to answer."""

import asyncio
import datetime
import inspect
import json
import linecache
import math
import os
import sys
import traceback
import types
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from .hints import hint
from .snippet import run_snippet, shown, written_files

_MAX_ERROR_CHARS = 2_000
_MAX_TRACEBACK_CHARS = 65_536


class NoHandlerError(Exception):
    """The module defines no entry point. Its message stands alone: clients match the sentence."""


class ResultTooLargeError(Exception):
    """The result is larger than the platform stores."""


class ResultNotJsonError(Exception):
    """The result holds something that JSON cannot say."""


def execute(request: dict[str, Any], ask: Callable[..., str] | None = None) -> bytes:
    """Run the request's module and handler; the encoded answer says how it went.

    A request of kind `code` has no handler; behind its answer are a newline and the files that it
    wrote, one after the other.
    `ask` is what the module finds as `input`; without it that only raises.
    Whatever the code raises, SystemExit and KeyboardInterrupt included, is part of the answer.
    """
    label = f"{request['namespace']}/{request['name']}"
    filename = f"{label}.py"
    deprecation: list[str] = []
    try:
        if request.get("kind") == "code":
            return _run_code(request, filename, ask or _no_input)
        value = _call(request, filename, deprecation, ask or _no_input)
        encoded = _encode(value, request["max_result_bytes"])
    except BaseException as error:  # noqa: BLE001 - every end of user code is an answer
        return json.dumps(
            {
                "kind": "raised",
                "type": type(error).__name__,
                "error": _one_line(error),
                "traceback": _user_traceback(error, filename),
                "deprecation": next(iter(deprecation), None),
            }
        ).encode()
    head = json.dumps({"kind": "returned", "deprecation": next(iter(deprecation), None)})
    return head[:-1].encode() + b', "value": ' + encoded + b"}"


def rehearse() -> None:
    """Run a call of nothing, so that the pages a call writes are copied before it comes.

    After a fork each first write to a page costs a fault, about a millisecond for a call in all.
    """
    code = "def handler(input_data, context):\n    return {'ready': [1, 'x']}\n"
    request: dict[str, Any] = {"namespace": "", "name": "", "code": code, "max_result_bytes": 1000}
    execute(json.loads(json.dumps({**request, "input": None, "context": {}})))
    sys.modules.pop("__", None)
    linecache.cache.pop("/.py", None)


def _run_code(request: dict[str, Any], filename: str, ask: Callable[..., str]) -> bytes:
    folder, code = os.getcwd(), request["code"]
    module = _module("__main__", code, filename, ask)
    value = shown(_awaited(run_snippet(code, filename, module.__dict__)))
    encoded = _encode(value, request["max_result_bytes"])
    files, contents = written_files(folder, module.__dict__)
    head = json.dumps({"kind": "returned", "deprecation": None, "files": files})
    return head[:-1].encode() + b', "value": ' + encoded + b"}\n" + contents


def _module(name: str, code: str, filename: str, ask: Callable[..., str]) -> types.ModuleType:
    """The empty module that the code fills."""
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    # dataclasses and typing look annotations up in sys.modules, so a bare dict would not do.
    module = types.ModuleType(name)
    module.__file__ = filename
    sys.modules[module.__name__] = module
    module.__dict__.update(json=json, datetime=datetime, uuid=uuid, input=ask)
    return module


def _call(
    request: dict[str, Any], filename: str, deprecation: list[str], ask: Callable[..., str]
) -> Any:
    code, name = request["code"], request["name"]
    # Without a dot: pickle would import the part before it as a package.
    module = _module(f"{request['namespace']}__{name}", code, filename, ask)
    exec(compile(code, filename, "exec", dont_inherit=True), module.__dict__)  # the point of it
    entry = _entry_point(module, request["namespace"], name, deprecation, ask)
    return _awaited(entry(*_arguments(entry, request["input"], request["context"])))


def _awaited(value: Any) -> Any:
    return asyncio.run(_finish(value)) if inspect.isawaitable(value) else value


async def _finish(awaitable: Any) -> Any:
    return await awaitable


def _no_input(prompt: object = "") -> NoReturn:  # noqa: ARG001 - the signature of the builtin
    raise RuntimeError("input() is not available in sandbox containers; use a shared-pool function")


def _entry_point(
    module: types.ModuleType,
    namespace: str,
    name: str,
    deprecation: list[str],
    ask: Callable[..., str],
) -> Callable[..., Any]:
    handler: Callable[..., Any] | None = module.__dict__.get("handler")
    if callable(handler):
        return handler
    named: Callable[..., Any] | None = module.__dict__.get(name)
    if callable(named) and named is not ask:
        deprecation.append(
            f"{namespace}/{name} defines {name}() as its entry point, which is deprecated; "
            "rename it to handler(input_data, context)."
        )
        return named
    raise NoHandlerError(
        f"No 'handler' function found in {namespace}/{name}; define handler(input_data, context)"
    )


def _arguments(entry: Callable[..., Any], *both: Any) -> tuple[Any, ...]:
    """Both arguments, or the first alone where the entry point takes one."""
    try:
        signature = inspect.signature(entry)
    except (TypeError, ValueError):
        return both
    try:
        signature.bind(*both)
    except TypeError:
        try:
            signature.bind(both[0])
        except TypeError:
            return both  # neither fits: let the call itself say what is missing
        return both[:1]
    return both


def _encode(value: Any, limit: int) -> bytes:
    try:
        # Real UTF-8 rather than escapes: a lone surrogate is found here, where its owner sees it.
        text = json.dumps(value, default=str, allow_nan=False, ensure_ascii=False)
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise ResultNotJsonError(
            f"the result holds text that is not valid Unicode: {error.reason}"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        found = _not_finite(value, "result", 0)
        detail = f"{found}, which JSON cannot hold" if found else str(error)
        raise ResultNotJsonError(f"the result is not JSON: {detail}") from None
    if len(encoded) > limit:
        raise ResultTooLargeError(
            f"the result has {len(encoded)} bytes as JSON; the limit is {limit} "
            "(FUNCTION_MAX_RESULT_BYTES)"
        )
    return encoded


def _not_finite(value: Any, path: str, depth: int) -> str | None:
    """`path is nan` for the first float that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}"
    if depth > 100:
        return None
    if isinstance(value, dict):
        inner = ((f"{path}.{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    else:
        return None
    return next(filter(None, (_not_finite(item, at, depth + 1) for at, item in inner)), None)


def _one_line(error: BaseException) -> str:
    if isinstance(error, NoHandlerError):
        return str(error)
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - a user's __str__ may do anything
        message = "(its message could not be printed)"
    name = type(error).__name__
    return f"{name}: {message}"[:_MAX_ERROR_CHARS] + hint(error) if message else name


def _user_traceback(error: BaseException, filename: str) -> str:
    """The traceback as Python prints it, less every frame that is not the user's."""
    if isinstance(error, NoHandlerError):
        return ""  # raised by the runner: there is no line of the user's to show
    try:
        report = traceback.TracebackException.from_exception(error)
        _keep_user_frames(report, filename)
        text = "".join(report.format())
    except Exception:  # noqa: BLE001 - a user's __str__ or a hostile exception class
        return ""
    if len(text) > _MAX_TRACEBACK_CHARS:
        half = _MAX_TRACEBACK_CHARS // 2
        text = f"{text[:half]}\n  [... {len(text) - 2 * half} characters cut ...]\n{text[-half:]}"
    return text


def _keep_user_frames(report: traceback.TracebackException, filename: str) -> None:
    todo, seen = [report], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        frames = [frame for frame in one.stack if frame.filename == filename]
        one.stack = traceback.StackSummary.from_list(frames)
        todo.extend(filter(None, (one.__cause__, one.__context__)))
        todo.extend(getattr(one, "exceptions", None) or ())

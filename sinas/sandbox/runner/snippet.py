"""Code that is no function: its last expression is the value, what it writes comes along."""

import ast
import io
import json
import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Any

from .protocol import MAX_FILE_BYTES, MAX_FILE_NAMES, MAX_FILES, MAX_FILES_BYTES


def run_snippet(code: str, filename: str, names: dict[str, Any]) -> Any:
    """Run a module; the value of its last statement if that is an expression, else None."""
    tree = ast.parse(code, filename)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, filename, "exec", dont_inherit=True), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), filename, "eval", dont_inherit=True), names)


def shown(value: Any) -> Any:
    """The value if JSON can say it, else its `repr`."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return repr(value).encode("utf-8", "backslashreplace").decode()
    return value


def written_files(folder: str, names: dict[str, Any]) -> tuple[list[tuple[str, int, bool]], bytes]:
    """Name, size and whether it is kept of each file below `folder`, and the contents of those.

    Links and what begins with a dot are left out. `names` are the module's: files that it left
    open are flushed first.
    """
    for value in names.values():
        if isinstance(value, io.IOBase) and not value.closed:
            value.flush()
    found: list[tuple[str, int, bool]] = []
    contents = bytearray()
    for path in islice(_files(folder), MAX_FILE_NAMES):
        name = os.fsencode(os.path.relpath(path, folder)).decode("utf-8", "replace")
        room = min(MAX_FILE_BYTES, MAX_FILES_BYTES - len(contents))
        size, content = _read(path, room if len(found) < MAX_FILES else -1)
        if content is not None:
            contents += content
        if size is not None:
            found.append((name, size, content is not None))
    return found, bytes(contents)


def _files(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one[0] != "." and one != "__pycache__")
        yield from (os.path.join(place, one) for one in sorted(files) if one[0] != ".")


def _read(path: str, limit: int) -> tuple[int | None, bytes | None]:
    """Size and content of a regular file; no content if it is larger than `limit`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None, None
        if status.st_size > limit:
            return status.st_size, None
        content = file.read(status.st_size)
    return len(content), content

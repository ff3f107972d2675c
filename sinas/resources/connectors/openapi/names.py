"""Names of operations and arguments, made of those in a document. Pure."""

import re
from collections.abc import Collection
from typing import Final

MAX_NAME_CHARS: Final = 100
# What the strictest providers of models take.
_MAX_ARGUMENT_CHARS: Final = 64
_WORDS = re.compile(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])")
_ODD = re.compile(r"[^A-Za-z0-9]+")
_ODD_IN_ARGUMENT = re.compile(r"[^A-Za-z0-9_.-]+")


def operation_name(operation_id: object, method: str, path: str, taken: Collection[str]) -> str:
    """A name in lower snake case, `method_path` where there is no id; another than those taken."""
    text = operation_id if isinstance(operation_id, str) else ""
    snake = _snake(text) or _snake(f"{method}_{path}") or method
    if not snake[0].isalpha():
        snake = f"{method}_{snake}"
    return _free(snake[:MAX_NAME_CHARS].strip("_"), taken, MAX_NAME_CHARS)


def argument_name(wire: str, location: str, taken: Collection[str]) -> str:
    """`wire` as models may write it, told apart by where it goes if it is taken."""
    plain = _ODD_IN_ARGUMENT.sub("_", wire).strip("_")[:_MAX_ARGUMENT_CHARS] or location
    if plain in taken:
        plain = f"{location}_{plain}"[:_MAX_ARGUMENT_CHARS]
    return _free(plain, taken, _MAX_ARGUMENT_CHARS)


def _snake(text: str) -> str:
    spaced = _WORDS.sub(lambda m: f"{m[1] or m[3]}_{m[2] or m[4]}", text)
    return _ODD.sub("_", spaced).strip("_").lower()


def _free(name: str, taken: Collection[str], most: int) -> str:
    number, free = 2, name
    while free in taken:
        mark = f"_{number}"
        free, number = f"{name[: most - len(mark)]}{mark}", number + 1
    return free

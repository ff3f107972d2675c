"""The filters templates may use: Jinja2's, each paid for, without those that grow by a number."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.tests import TESTS as DEFAULT_TESTS
from jinja2.utils import pass_context, pass_environment
from markupsafe import Markup

from sinas.kit.template_meter import TemplateError, is_collection, meter, pay_for

_MAX_COUNT = 10_000
_MAX_PRECISION = 100
# One unit of work for so many steps of an algorithm that is quadratic in its text.
_STEPS_PER_UNIT = 2000
_LEFT_OUT = frozenset({"center", "format", "indent", "wordwrap"})
# Look at no more than the type, the length or one end of what they get.
_CHEAP = frozenset(
    {"abs", "attr", "count", "d", "default", "first", "float", "last", "length", "random"}
)
# By regular expressions or repeated copies: quadratic in a hostile text.
_QUADRATIC = frozenset({"striptags", "urlize"})
# Python code for each item, where others are C.
_SLOW = {"pprint": 50, "urlencode": 5}
_COUNTED = {"batch": "linecount", "slice": "slices"}
# One conversion of `%` formatting, its width and precision short.
_CONVERSION = re.compile(r"%(?:[-+ 0#]{0,5}[0-9]{0,3}(?:\.[0-9]{1,2})?[sdiufFeEgGxXo]|%)")


def filters() -> dict[str, Callable[..., Any]]:
    """The filters of an environment."""
    found = {
        name: _paid(name, function)
        for name, function in DEFAULT_FILTERS.items()
        if name not in _LEFT_OUT
    }
    found["format"] = _format
    return found


def tests() -> Any:
    """The tests of an environment. Filters such as `select` run one for each item, unseen.

    A dictionary, as `filters`; Jinja declares its values as a type that has no name.
    """
    known: Any = DEFAULT_TESTS
    return {name: _paid_test(function) for name, function in known.items()}


def _paid_test(function: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(function, "jinja_pass_arg", None) is not None:
        # `is filter` and `is test`, the only ones, look a name up.
        @pass_environment
        def looked_up(environment: Any, value: Any) -> Any:
            meter().spend(1)
            return function(environment, value)

        return looked_up

    def paid(value: Any, *args: Any) -> Any:
        meter().spend(1)
        for argument in args:
            pay_for(argument)
        if args:
            pay_for(value)
        return function(value, *args)

    return paid


class Steps:
    """A sequence to loop over, one unit an item: what is in it was paid for when it was made."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        spend = meter().spend
        for item in self._items:
            spend(1)
            yield item

    def __len__(self) -> int:
        return len(self._items)


def _stream(items: Iterable[Any]) -> Iterator[Any]:
    """What comes one by one, each paid for: it may be the same long text again and again."""
    for item in items:
        meter().spend(1)
        pay_for(item)
        yield item


def counted(items: Any) -> Any:
    """`items`, so that a loop over them pays for each."""
    if isinstance(items, Undefined):
        return items
    return Steps(items) if hasattr(items, "__len__") else _stream(items)


def _paid(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, with a price on what goes in and what comes out.

    It takes the context whatever the original takes, so that Jinja never runs it on constants
    while it compiles, when nobody counts.
    """
    kind = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def paid(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter().spend(1)
        if name not in _CHEAP:
            value = _pay_for_input(name, value)
            for argument in (*args, *kwargs.values()):
                pay_for(argument)
        _check(name, value, args, kwargs)
        match kind:
            case "context":
                result = function(context, value, *args, **kwargs)
            case "eval_context":
                result = function(context.eval_ctx, value, *args, **kwargs)
            case "environment":
                result = function(context.environment, value, *args, **kwargs)
            case _:
                result = function(value, *args, **kwargs)
        if hasattr(result, "__next__"):
            return _stream(result)
        if name not in _CHEAP:
            pay_for(result)
        return result

    return paid


def _pay_for_input(name: str, value: Any) -> Any:
    if isinstance(value, str) or is_collection(value):
        pay_for(value)
    elif hasattr(value, "__next__") and name == "join":
        value = list(value)  # to know how much there is
    if name in _SLOW:
        meter().spend((_SLOW[name] - 1) * meter().weigh(value))
    if name in _QUADRATIC:
        meter().spend(len(str(value)) ** 2 // _STEPS_PER_UNIT)
    return value


def _check(name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse, or charge beforehand, what can make much out of little."""
    first = args[0] if args else None
    if name in _COUNTED:
        _limit(name, kwargs.get(_COUNTED[name], first), _MAX_COUNT)
    elif name == "round":
        _limit(name, kwargs.get("precision", first), _MAX_PRECISION)
    elif name == "replace":
        old = kwargs.get("old", first)
        new = kwargs.get("new", args[1] if len(args) > 1 else "")
        pay_for_replacing(str(value), str(old), str(new))
    elif name == "join" and not isinstance(value, Undefined):
        _pay_for_joining(value, str(kwargs.get("d", first or "")))
    elif name == "sum" and not isinstance(
        kwargs.get("start", args[1] if len(args) > 1 else 0), int | float
    ):
        raise TemplateError("sum adds up numbers only; join texts, and lists with +.")


def _limit(name: str, number: Any, most: int) -> None:
    if isinstance(number, int) and abs(number) > most:
        raise TemplateError(f"{name} takes numbers up to {most}.")


def pay_for_replacing(text: str, old: str, new: str) -> None:
    """Charge for the longest text that replacing can make."""
    meter().spend(len(text) + text.count(old) * len(new))


def _pay_for_joining(value: Any, separator: str) -> None:
    if hasattr(value, "__len__"):
        meter().spend(len(value) * (len(separator) + 1))


@pass_context
def _format(context: Context, text: Any, *args: Any) -> str:
    """`'%.2f'|format(price)`: widths up to 999, no names.

    It takes the context for the reason that `_paid` does.
    """
    del context
    pattern = str(text)
    if "%" in _CONVERSION.sub("", pattern):
        raise TemplateError("format takes conversions like %s, %d or %8.2f, and no names.")
    for argument in args:
        pay_for(argument)
    meter().spend(len(pattern) + 1000 * pattern.count("%"))
    # A safe text stays one, and what is put into it is escaped.
    if hasattr(text, "__html__"):
        return Markup(pattern) % args  # noqa: S704 - it was safe when it came
    return pattern % args

"""Templates of users (prompts, parameters, status texts): Jinja2 without a way out.

Templates see JSON values only. Attributes that lead to Python's insides are refused by Jinja's
sandbox; what it lets through but would fill the memory of the process is refused here.
"""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, Template, Undefined
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.exceptions import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from sinas.errors import InvalidInputError

MAX_OUTPUT_CHARS = 1_000_000
_MAX_REPEATED = 100_000
_MAX_EXPONENT = 64
# Methods of str that make a long text out of a number.
_GROWING = frozenset(
    {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill", "translate"}
)


class TemplateError(InvalidInputError):
    """A template that cannot be parsed or rendered; the message says why and where."""

    code = "template_error"


_is_lacking: ContextVar[bool] = ContextVar("is_lacking", default=False)


class _Blank(ChainableUndefined):
    """An unknown name, and whatever is asked of it: empty, but noted where it is used."""

    @override
    def __str__(self) -> str:
        _is_lacking.set(True)
        return ""

    @override
    def __iter__(self) -> Iterator[Any]:
        _is_lacking.set(True)
        return iter(())


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, undefined: type[Undefined]) -> None:
        super().__init__(undefined=undefined, autoescape=False, keep_trailing_newline=True)
        del self.globals["lipsum"]
        for name in ("center", "format", "indent", "wordwrap"):
            del self.filters[name]

    @override
    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _GROWING:
            return False
        return super().is_safe_attribute(obj, attr, value)

    @override
    def wrap_str_format(self, value: Any) -> None:
        """Jinja would let `str.format` through in a guarded form that still pads without end."""

    @override
    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (_is_small(left) and _is_small(right)):
            raise TemplateError(f"Only numbers up to {_MAX_EXPONENT} may be raised to a power.")
        if operator == "%" and isinstance(left, str | bytes):
            raise TemplateError("Texts cannot be formatted with %; join them with ~.")
        if operator == "*" and _repeated_length(left, right) > _MAX_REPEATED:
            raise TemplateError(f"Repeating makes more than {_MAX_REPEATED} items.")
        return super().call_binop(context, operator, left, right)


def _is_small(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= _MAX_EXPONENT


def _repeated_length(left: object, right: object) -> int:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | bytes | list | tuple) and isinstance(count, int):
            return len(sequence) * count
    return 0


_STRICT = _Environment(StrictUndefined)
_LENIENT = _Environment(_Blank)


@lru_cache(maxsize=512)
def _parsed(text: str, environment: _Environment = _STRICT) -> Template:
    try:
        return environment.from_string(text)
    except TemplateSyntaxError as error:
        raise TemplateError(f"Template, line {error.lineno}: {error.message}") from None
    except (JinjaError, RecursionError) as error:
        raise TemplateError(f"Template: {error}") from None


def check_template(text: str) -> None:
    """Make sure that `text` parses.

    Raises:
        TemplateError: It does not; the message names the line.
    """
    _parsed(text)


def render(text: str, variables: Mapping[str, object]) -> str:
    """Fill `text` in. A name that is not in `variables` is an error, not an empty text.

    Raises:
        TemplateError: It does not parse, uses an unknown name, fails while it runs, or makes
            more than `MAX_OUTPUT_CHARS` characters.
    """
    return _filled(_parsed(text), variables)


def render_lenient(text: str, variables: Mapping[str, object]) -> tuple[str, bool]:
    """Fill `text` in, unknown names with nothing; and whether it used any.

    Raises:
        TemplateError: As `render`, but for unknown names.
    """
    token = _is_lacking.set(False)
    try:
        return _filled(_parsed(text, _LENIENT), variables), _is_lacking.get()
    finally:
        _is_lacking.reset(token)


def _filled(template: Template, variables: Mapping[str, object]) -> str:
    try:
        return "".join(_bounded(template.generate(dict(variables))))
    except TemplateError:
        raise
    except JinjaError as error:
        raise TemplateError(f"Template: {error.message or type(error).__name__}") from None
    except Exception as error:  # noqa: BLE001 - a user's expression can raise anything
        raise TemplateError(f"Template: {type(error).__name__}: {error}") from None


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    length = 0
    for part in parts:
        length += len(part)
        if length > MAX_OUTPUT_CHARS:
            raise TemplateError(f"The template makes more than {MAX_OUTPUT_CHARS} characters.")
        yield part

"""Templates of users (prompts, parameters, status texts, mail): Jinja2 without a way out.

Templates see JSON values only. Attributes that lead to Python's insides are refused by Jinja's
sandbox; what it lets through but would take the process's time or memory is counted and ended.
"""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, Template
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.exceptions import TemplateSyntaxError
from typing_extensions import override

from sinas.kit.template_environment import BoundedEnvironment
from sinas.kit.template_meter import TemplateError, metered

__all__ = [
    "TemplateError",
    "check_document",
    "check_template",
    "render",
    "render_document",
    "render_lenient",
]

MAX_OUTPUT_CHARS = 1_000_000
# Of one template. Parsing that many can take two seconds, so not on an event loop.
MAX_SOURCE_CHARS = 200_000
# Compiled, a template takes many times the memory of its text: longer ones are not kept, and
# parsed anew each time. What is filled in on an event loop is no longer than this.
MAX_KEPT_CHARS = 10_000
# As Jinja names templates that were not loaded from a file.
_FILE = "<template>"

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


_STRICT = BoundedEnvironment(StrictUndefined, escapes=False, trims=False)
_LENIENT = BoundedEnvironment(_Blank, escapes=False, trims=False)
_TEXT = BoundedEnvironment(StrictUndefined, escapes=False, trims=True)
_HTML = BoundedEnvironment(StrictUndefined, escapes=True, trims=True)


def _parsed(text: str, environment: BoundedEnvironment = _STRICT) -> Template:
    return (_kept if len(text) <= MAX_KEPT_CHARS else _compiled)(text, environment)


@lru_cache(maxsize=256)
def _kept(text: str, environment: BoundedEnvironment) -> Template:
    return _compiled(text, environment)


def _compiled(text: str, environment: BoundedEnvironment) -> Template:
    try:
        return environment.from_string(text)
    except TemplateSyntaxError as error:
        raise TemplateError(f"Template, line {error.lineno}: {error.message}") from None
    except (RecursionError, MemoryError):  # Python's parser says either
        raise TemplateError("Template: it is nested too deeply.") from None
    except Exception as error:  # noqa: BLE001 - Python's compiler has limits and errors of its own
        raise TemplateError(f"Template: {error}") from None


def check_template(text: str) -> None:
    """Make sure that `text` parses.

    Raises:
        TemplateError: It does not; the message names the line.
    """
    _parsed(text)


def check_document(text: str, *, is_html: bool) -> None:
    """As `check_template`, for what `render_document` fills in."""
    _parsed(text, _HTML if is_html else _TEXT)


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


def render_document(text: str, variables: Mapping[str, object], *, is_html: bool) -> str:
    """Fill a part of a document in, as `render`; lines that hold only tags leave no empty line.

    Of HTML, what is filled in is escaped unless the template says `|safe`.

    Raises:
        TemplateError: As `render`.
    """
    return _filled(_parsed(text, _HTML if is_html else _TEXT), variables)


def _filled(template: Template, variables: Mapping[str, object]) -> str:
    try:
        with metered():
            filled = "".join(_bounded(template.generate(dict(variables))))
        _check_text(filled)
    except TemplateError as error:
        raise TemplateError(f"{_place(error)}{error.message}") from None
    except JinjaError as error:
        raise TemplateError(f"{_place(error)}{error.message or type(error).__name__}") from None
    except RecursionError as error:
        raise TemplateError(f"{_place(error)}It calls itself too often.") from None
    except Exception as error:  # noqa: BLE001 - a user's expression can raise anything
        raise TemplateError(f"{_place(error)}{type(error).__name__}: {error}") from None
    return filled


def _check_text(text: str) -> None:
    """Refuse what escapes in a template's own texts can make, and no database or wire takes."""
    if "\x00" in text:
        raise TemplateError("The template makes a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError("The template makes text that is not valid Unicode.") from None


def _place(error: Exception) -> str:
    """Where in the template it happened: `Template, line 3: `."""
    line = 0
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"Template, line {line}: " if line else "Template: "


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    length = 0
    for part in parts:
        length += len(part)
        if length > MAX_OUTPUT_CHARS:
            raise TemplateError(f"The template makes more than {MAX_OUTPUT_CHARS} characters.")
        yield part

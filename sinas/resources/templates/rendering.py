"""Filling templates in. Pure, and up to a second of work: better not on an event loop."""

from collections.abc import Mapping
from dataclasses import dataclass

from sinas.errors import BadRequestError, FieldError
from sinas.kit.html_text import text_of_html
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import compile_schema
from sinas.kit.templates import TemplateError, render_document
from sinas.models import Template


@dataclass(frozen=True, slots=True)
class Rendered:
    """What became of a template. `title` is one line; `text` is None where it has none."""

    title: str | None
    html: str
    text: str | None

    @property
    def readable_text(self) -> str:
        """The text, or what the HTML says."""
        return text_of_html(self.html) if self.text is None else self.text


def rendered(template: Template, variables: JsonObject) -> Rendered:
    """Fill in every part.

    Raises:
        BadRequestError: The variables break the template's schema, or a part fails: which, on
            which line and why.
    """
    _check(template.variable_schema, variables)
    title = _part("title", template.title, variables)
    html = _part("html_content", template.html_content, variables, is_html=True)
    return Rendered(
        title=None if title is None else " ".join(title.split()),
        html=html or "",
        text=_part("text_content", template.text_content, variables),
    )


def _check(schema: JsonObject, variables: JsonObject) -> None:
    if not schema:
        return
    violations = compile_schema(schema).violations(variables)
    if not violations:
        return
    errors = [
        FieldError(".".join(map(str, ("variables", *found.path))), found.message)
        for found in violations
    ]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise BadRequestError(f"{errors[0].field}: {errors[0].message}{more}", errors)


def _part(
    field: str, text: str | None, variables: Mapping[str, object], *, is_html: bool = False
) -> str | None:
    if text is None:
        return None
    try:
        return render_document(text, variables, is_html=is_html)
    except TemplateError as error:
        raise BadRequestError(
            f"{field}: {error.message}", [FieldError(field, error.message)]
        ) from (error)

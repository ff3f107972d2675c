"""Bodies of the template operations."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.kit.email import Email
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.kit.mail_message import MAX_NAME_CHARS
from sinas.kit.templates import MAX_SOURCE_CHARS
from sinas.resources.files.schemas import Name as FileName

MAX_ATTACHMENTS = 10
_MAX_TITLE_CHARS = 2_000


def _usable(schema: JsonObject) -> JsonObject:
    try:
        check_schema(schema)
    except BadSchemaError as error:
        where = "/".join(str(part) for part in error.path)
        raise ValueError(
            f"is no valid JSON Schema{' at ' + where if where else ''}: {error.message}"
        ) from error
    return schema


Identifier = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-z][a-z0-9_-]*$")]
Description = Annotated[str, Field(max_length=4096)]
Title = Annotated[
    str, Field(max_length=_MAX_TITLE_CHARS, description="Jinja2; the subject of a mail.")
]
HtmlContent = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_SOURCE_CHARS,
        description="Jinja2 that makes HTML; what is filled in is escaped.",
    ),
]
TextContent = Annotated[
    str,
    Field(
        max_length=MAX_SOURCE_CHARS,
        description="Jinja2 that makes the plain text of a mail; null for one made from the HTML.",
    ),
]
VariableSchema = Annotated[
    JsonObject,
    AfterValidator(_usable),
    Field(description="JSON Schema (draft 2020-12) of the variables; empty for any."),
]


def _sendable(variables: JsonObject) -> JsonObject:
    try:
        encode(variables)
    except NotJsonError as error:
        raise ValueError(str(error)) from error
    return variables


def _unreserved(alias: str) -> str:
    if alias.lower() == "login":
        raise ValueError("is what login codes come from; choose another one")
    return alias


Variables = Annotated[
    JsonObject, AfterValidator(_sendable), Field(description="What the template fills in.")
]


class TemplateCreate(Input):
    """A new template."""

    namespace: Identifier = "default"
    name: Identifier
    description: Description | None = None
    title: Title | None = None
    html_content: HtmlContent
    text_content: TextContent | None = None
    variable_schema: VariableSchema | None = None
    is_active: bool = True


class TemplateUpdate(Change):
    """Fields to change. Null empties `description`, `title` and `text_content`."""

    set_by_platform = Change.set_by_platform | {
        "config_checksum",
        "config_name",
        "created_by",
        "managed_by",
        "updated_by",
    }

    namespace: Identifier | None = None
    name: Identifier | None = None
    description: Description | None = None
    title: Title | None = None
    html_content: HtmlContent | None = None
    text_content: TextContent | None = None
    variable_schema: VariableSchema | None = None
    is_active: bool | None = None


class TemplateRead(Stamped):
    """A template."""

    namespace: str
    name: str
    description: str | None
    title: str | None
    html_content: str
    text_content: str | None
    variable_schema: JsonObject
    is_active: bool
    user_id: UUID | None = Field(description="Null for what came with the platform.")
    created_by: UUID | None
    updated_by: UUID | None
    managed_by: str | None
    config_name: str | None
    config_checksum: str | None


class TemplateRenderRequest(Input):
    """Variables to fill a template in with."""

    variables: Variables = {}


class TemplateRenderResponse(Output):
    """A template, filled in."""

    title: str | None
    html_content: str
    text_content: str | None


class TemplateAttachment(Input):
    """A file of a collection, one that the sender may download."""

    collection: Annotated[
        str,
        Field(
            max_length=201,
            pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*/[a-zA-Z][a-zA-Z0-9_-]*$",
            description="`namespace/name`.",
        ),
    ]
    filename: FileName
    version: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="Left out, the current version.")
    ] = None
    name: Annotated[
        FileName | None, Field(description="What the mail calls it; left out, its own name.")
    ] = None


class TemplateEmailRequest(Input):
    """A mail to send."""

    to: Email
    from_alias: (
        Annotated[
            str,
            AfterValidator(_unreserved),
            Field(
                pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9])?$",
                description="What comes before the @ of the sender; after it comes SMTP_DOMAIN.",
            ),
        ]
        | None
    ) = None
    from_name: (
        Annotated[
            str,
            Field(
                max_length=MAX_NAME_CHARS, description="Name that mail programs show as the sender."
            ),
        ]
        | None
    ) = None
    variables: Variables
    attachments: Annotated[
        list[TemplateAttachment],
        Field(
            max_length=MAX_ATTACHMENTS,
            description="Files that go with it; together at most SMTP_MAX_ATTACHMENTS_MB.",
        ),
    ] = []


class TemplateEmailResponse(Output):
    """The mail server took the mail."""

    message: str
    to: str

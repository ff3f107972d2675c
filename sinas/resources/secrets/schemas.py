"""Bodies of the secret operations. A value only goes in: no answer has a field for it."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr

from sinas.crud.schema import Change, Input, Stamped
from sinas.models import SecretVisibility

_MAX_VALUE = 65_536


def _of_use(value: SecretStr) -> SecretStr:
    # By hand: pydantic's own words for a SecretStr speak of "items".
    length = len(value.get_secret_value())
    if not 1 <= length <= _MAX_VALUE:
        raise ValueError(f"must have 1 to {_MAX_VALUE} characters")
    return value


Value = Annotated[
    SecretStr,
    AfterValidator(_of_use),
    Field(description="Stored encrypted, never returned."),
]

AllowedHosts = Annotated[
    list[
        Annotated[
            str,
            Field(max_length=255, pattern=r"^\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"),
        ]
    ],
    Field(
        max_length=50,
        description="Hosts, or `.suffixes` of hosts, that connectors may send it to, and no "
        "others. Null: where its user, or somebody who may change shared secrets, set the "
        "connector's address.",
    ),
]


class SecretCreate(Input):
    """A new secret, or a new value of the one that has this name and visibility."""

    name: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    value: Value
    description: str | None = Field(
        None, description="Left out, an existing secret keeps its description."
    )
    visibility: SecretVisibility = Field(
        SecretVisibility.SHARED,
        description="`shared` is for everybody's functions and needs "
        "`sinas.secrets.create:all`; `private` is for the caller's alone and overrides the "
        "shared one of its name there.",
    )
    allowed_hosts: AllowedHosts | None = None


class SecretUpdate(Change):
    """Changes; what is left out stays."""

    value: Value | None = None
    description: str | None = None
    allowed_hosts: AllowedHosts | None = None


class SecretRead(Stamped):
    """A secret without its value."""

    name: str
    description: str | None
    visibility: SecretVisibility
    user_id: UUID
    allowed_hosts: list[str] | None

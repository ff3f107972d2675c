"""Requests and answers of roles."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from sinas.auth.permissions import ResourcePermissions
from sinas.crud.schema import Change, Input, Output, Stamped


def _addressable(name: str) -> str:
    # The name is a segment of the role's URL.
    if "/" in name or not name.isprintable():
        raise PydanticCustomError(
            "role_name", "A role's name cannot contain a slash or a control character."
        )
    return name


def _domain(value: str) -> str:
    domain = value.strip().lower().removeprefix("@")
    if not domain or "@" in domain or any(c.isspace() or not c.isprintable() for c in domain):
        raise PydanticCustomError(
            "email_domain", "This is no domain; write it like example.com, or leave it out."
        )
    return domain


RoleName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
    AfterValidator(_addressable),
]
EmailDomain = Annotated[str, Field(max_length=255), AfterValidator(_domain)]


class RoleCreate(Input):
    """A new role. Users created with an address at `email_domain` join it."""

    name: RoleName
    description: str | None = None
    email_domain: EmailDomain | None = None


class RoleUpdate(Change):
    """Fields to change."""

    name: RoleName | None = None
    description: str | None = None
    email_domain: EmailDomain | None = None


class RoleRead(Stamped):
    """A role."""

    name: str
    description: str | None
    email_domain: str | None


class MemberAdd(Input):
    """Who joins."""

    user_id: UUID


class MemberRead(Output):
    """A membership."""

    id: UUID
    role_id: UUID
    user_id: UUID
    user_email: str
    active: bool
    added_at: datetime


class PermissionSetting(Input):
    """A key to grant (true) or to switch off (false, which denies nothing)."""

    permission_key: str
    permission_value: bool


class PermissionRead(Stamped):
    """One permission key of a role."""

    role_id: UUID
    permission_key: str
    permission_value: bool


class PermissionReference(Output):
    """A kind of resource and what can be done with it."""

    resource: str
    description: str
    actions: list[str]
    namespaced: bool
    adminOnly: bool  # noqa: N815 - the contract's spelling

    @classmethod
    def of(cls, row: ResourcePermissions) -> "PermissionReference":
        """One row of the registry."""
        return cls(
            resource=row.resource,
            description=row.description,
            actions=list(row.actions),
            namespaced=row.namespaced,
            adminOnly=row.admin_only,
        )

"""Requests and answers of users."""

from datetime import datetime
from uuid import UUID

from sinas.crud.schema import Change, Input, Output
from sinas.kit.email import Email


class UserCreate(Input):
    """A new user."""

    email: Email


class UserUpdate(Change):
    """Fields to change. Only holders of `sinas.users.update:all` may switch `is_active`."""

    set_by_platform = Change.set_by_platform | {"last_login_at"}

    is_active: bool | None = None


class UserRead(Output):
    """A user."""

    id: UUID
    email: str
    last_login_at: datetime | None
    created_at: datetime
    is_active: bool


class UserDetail(UserRead):
    """A user and the names of their roles."""

    roles: list[str]

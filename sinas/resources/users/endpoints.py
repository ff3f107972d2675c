"""Management routes of users, under `/api/v1/users`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, status

from sinas.auth.principal import Principal
from sinas.auth.superadmin import superadmin_email
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import User
from sinas.resources.users.schemas import UserCreate, UserDetail, UserRead, UserUpdate
from sinas.resources.users.service import UserService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/users", tags=["users"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _service(action: str) -> Callable[..., Awaitable[UserService]]:
    async def build(
        unit: InUnit,
        principal: Annotated[Principal, Depends(permitted("users", action))],
        context: Context,
    ) -> UserService:
        return UserService(unit, principal, superadmin_email(context.settings))

    return build


Read = Annotated[UserService, Depends(_service("read"))]
Create = Annotated[UserService, Depends(_service("create"))]
Update = Annotated[UserService, Depends(_service("update"))]
Delete = Annotated[UserService, Depends(_service("delete"))]


@router.get("")
async def list_users(
    users: Read,
    skip: Annotated[SkipQuery, Query()] = 0,
    limit: Annotated[LimitQuery, Query()] = 100,
    search: Annotated[str | None, Query(max_length=254, description="Part of an e-mail.")] = None,
    include_inactive: Annotated[bool, Query(description="Deactivated users too.")] = False,
) -> Sequence[UserDetail]:
    """List users with their roles, newest first."""
    return await users.page(
        search=search, include_inactive=include_inactive, skip=skip, limit=limit
    )


@router.post("", status_code=status.HTTP_201_CREATED, response_model=UserRead)
async def create_user(body: UserCreate, users: Create) -> User:
    """Create a user, or bring a deactivated one back as a guest."""
    return await users.create(body)


@router.get("/{user_id}")
async def get_user(user_id: UUID, users: Read) -> UserDetail:
    """Get one user: anybody for those who may read all, otherwise oneself."""
    return await users.get(user_id)


@router.patch("/{user_id}")
async def update_user(user_id: UUID, body: UserUpdate, users: Update) -> UserRead:
    """Deactivate or reactivate a user."""
    return await users.update(user_id, body)


@router.delete("/{user_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_user(user_id: UUID, users: Delete) -> None:
    """Deactivate a user: memberships, sign-ins and API keys end at once."""
    await users.delete(user_id)

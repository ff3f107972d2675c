"""Management routes of roles, under `/api/v1/roles`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, status

from sinas.auth.principal import Principal
from sinas.auth.superadmin import superadmin_email
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Role, RolePermission
from sinas.resources.roles.schemas import (
    MemberAdd,
    MemberRead,
    PermissionRead,
    PermissionReference,
    PermissionSetting,
    RoleCreate,
    RoleRead,
    RoleUpdate,
)
from sinas.resources.roles.service import RoleService
from sinas.web.deps import CREDENTIALS, Caller, Context, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/roles", tags=["roles"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _service(action: str) -> Callable[..., Awaitable[RoleService]]:
    async def build(
        unit: InUnit,
        principal: Annotated[Principal, Depends(permitted("roles", action))],
        context: Context,
    ) -> RoleService:
        return RoleService(unit, principal, superadmin_email(context.settings))

    return build


async def own_roles(unit: InUnit, principal: Caller, context: Context) -> RoleService:
    """For anybody signed in: everybody sees the roles they are in."""
    return RoleService(unit, principal, superadmin_email(context.settings))


own_roles.permission = "authenticated"  # type: ignore[attr-defined]

Anybody = Annotated[RoleService, Depends(own_roles)]
Create = Annotated[RoleService, Depends(_service("create"))]
Update = Annotated[RoleService, Depends(_service("update"))]
Delete = Annotated[RoleService, Depends(_service("delete"))]
Members = Annotated[RoleService, Depends(_service("manage_members"))]
Permissions = Annotated[RoleService, Depends(_service("manage_permissions"))]


# Before `/{name}/…`, which would take "permissions" for a role.
@router.get("/permissions/reference")
async def permission_reference(roles: Anybody) -> list[PermissionReference]:
    """What can be granted: resources and their actions."""
    return roles.reference()


@router.get("/permissions/defaults")
async def permission_defaults(roles: Permissions) -> dict[str, dict[str, bool]]:
    """The keys the built-in roles start with."""
    return roles.defaults()


@router.post("", status_code=status.HTTP_201_CREATED, response_model=RoleRead)
async def create_role(body: RoleCreate, roles: Create) -> Role:
    """Create a role without permissions; its creator becomes a member."""
    return await roles.create(body)


@router.get("", response_model=list[RoleRead])
async def list_roles(
    roles: Anybody,
    skip: Annotated[SkipQuery, Query()] = 0,
    limit: Annotated[LimitQuery, Query()] = 100,
) -> Sequence[Role]:
    """List roles by name: all of them, or those the caller is a member of."""
    return await roles.page(skip=skip, limit=limit)


@router.get("/{name}", response_model=RoleRead)
async def get_role(name: str, roles: Anybody) -> Role:
    """Get one role."""
    return await roles.get(name)


@router.patch("/{name}")
async def update_role(name: str, body: RoleUpdate, roles: Update) -> RoleRead:
    """Change the given fields of a role."""
    return await roles.update(name, body)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_role(name: str, roles: Delete) -> None:
    """Delete a role; its members lose what it granted at once."""
    await roles.delete(name)


@router.get("/{name}/members")
async def list_members(name: str, roles: Anybody) -> Sequence[MemberRead]:
    """List the members of a role."""
    return await roles.members(name)


@router.post("/{name}/members")
async def add_member(name: str, body: MemberAdd, roles: Members) -> MemberRead:
    """Make a user a member of a role."""
    return await roles.add_member(name, body.user_id)


@router.delete("/{name}/members/{user_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_member(name: str, user_id: UUID, roles: Members) -> None:
    """End a user's membership of a role."""
    await roles.remove_member(name, user_id)


@router.get("/{name}/permissions", response_model=list[PermissionRead])
async def list_permissions(name: str, roles: Anybody) -> Sequence[RolePermission]:
    """List the permission keys of a role."""
    return await roles.permissions(name)


@router.post("/{name}/permissions", response_model=PermissionRead)
async def set_permission(name: str, body: PermissionSetting, roles: Permissions) -> RolePermission:
    """Grant a permission key to a role, or switch it off."""
    return await roles.set_permission(name, body)


@router.delete("/{name}/permissions", status_code=status.HTTP_204_NO_CONTENT)
async def remove_permission(
    name: str, permission_key: Annotated[str, Query()], roles: Permissions
) -> None:
    """Take a permission key from a role."""
    await roles.remove_permission(name, permission_key)

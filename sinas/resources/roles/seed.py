"""The built-in roles, brought up to date at every start."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from sinas.auth.permissions import ADMIN_ROLE, DEFAULT_ROLES
from sinas.db.unit import Unit
from sinas.models import Role, RolePermission


async def seed_roles(unit: Unit) -> None:
    """Add missing built-in roles and missing default keys.

    Keys that were removed come back; values that were changed stay, except those of Admins.
    """
    roles = insert(Role).on_conflict_do_nothing(index_elements=["name"])
    await unit.session.execute(
        roles,
        [
            {"name": name, "description": f"Default {name} role", "is_builtin": True}
            for name in DEFAULT_ROLES
        ],
    )
    found = await unit.session.execute(select(Role.name, Role.id).where(Role.is_builtin))
    ids = {row.name: row.id for row in found}
    keys = insert(RolePermission).on_conflict_do_nothing(
        index_elements=["role_id", "permission_key"]
    )
    await unit.session.execute(
        keys,
        [
            {"role_id": ids[name], "permission_key": key, "permission_value": True}
            for name, defaults in DEFAULT_ROLES.items()
            for key in defaults
        ],
    )
    await _restore_admins(unit, ids[ADMIN_ROLE])


async def _restore_admins(unit: Unit, role_id: object) -> None:
    rows = await unit.session.scalars(
        select(RolePermission).where(
            RolePermission.role_id == role_id,
            RolePermission.permission_key.in_(DEFAULT_ROLES[ADMIN_ROLE]),
            ~RolePermission.permission_value,
        )
    )
    for row in rows:
        row.permission_value = True

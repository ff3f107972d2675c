"""Users, roles and keys, written through the models."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count

from sqlalchemy import select

from sinas.auth.permissions import USER_ROLE
from sinas.context import AppContext
from sinas.kit.crypto import random_token, sha256_hex
from sinas.models import ApiKey, Role, RolePermission, User, UserRole

_numbers = count(1)


async def make_role(
    context: AppContext, permissions: Sequence[str] = (), *, name: str | None = None
) -> Role:
    """A role that grants `permissions`, full keys with their scope."""
    async with context.unit() as unit:
        role = Role(name=name or f"role-{next(_numbers)}", description=None, email_domain=None)
        unit.session.add(role)
        await unit.session.flush()
        unit.session.add_all(
            RolePermission(role_id=role.id, permission_key=key, permission_value=True)
            for key in permissions
        )
    return role


async def make_user(
    context: AppContext,
    *,
    email: str | None = None,
    roles: Sequence[str] = (USER_ROLE,),
    permissions: Sequence[str] = (),
    is_active: bool = True,
) -> User:
    """A user in `roles` (by name); `permissions` come on top, by a role of their own.

    The user of an address that is taken is returned, as a member of `roles` too.
    """
    email = email or f"user-{next(_numbers)}@example.com"
    extra = [(await make_role(context, permissions)).id] if permissions else []
    async with context.unit() as unit:
        session = unit.session
        user = await session.scalar(select(User).where(User.email == email))
        if user is None:
            user = User(email=email, is_active=is_active)
            session.add(user)
            await session.flush()
        held = set(
            await session.scalars(select(UserRole.role_id).where(UserRole.user_id == user.id))
        )
        wanted = [*(await session.scalars(select(Role.id).where(Role.name.in_(roles)))), *extra]
        assert len(wanted) == len(roles) + len(extra), f"no such role among {roles}"
        session.add_all(
            UserRole(user_id=user.id, role_id=role) for role in wanted if role not in held
        )
    return user


async def make_api_key(
    context: AppContext,
    user: User,
    *,
    permissions: Mapping[str, bool] | None = None,
    expires_at: datetime | None = None,
    is_active: bool = True,
) -> tuple[ApiKey, str]:
    """A key of `user` and its plain text."""
    plain = f"sk-{random_token()}"
    async with context.unit() as unit:
        row = ApiKey(
            user_id=user.id,
            name=f"key-{next(_numbers)}",
            key_hash=sha256_hex(plain),
            key_prefix=plain[:8],
            permissions=None if permissions is None else dict(permissions),
            expires_at=expires_at,
            is_active=is_active,
        )
        unit.session.add(row)
    return row, plain

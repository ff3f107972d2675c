"""The first administrator."""

from sqlalchemy import select

from sinas.auth.permissions import ADMIN_ROLE
from sinas.db.unit import Unit
from sinas.models import Role, User, UserRole


async def seed_superadmin(unit: Unit, email: str) -> None:
    """Make sure that somebody can administrate.

    If Admins has no active member, the superadmin is created or reactivated, and joins it. Needs
    the built-in roles.
    """
    session = unit.session
    role_id = (await session.scalars(select(Role.id).where(Role.name == ADMIN_ROLE))).one()
    admins = (
        select(UserRole.id)
        .join(User, User.id == UserRole.user_id)
        .where(UserRole.role_id == role_id, UserRole.active, User.is_active)
        .limit(1)
    )
    if await session.scalar(admins) is not None:
        return
    user = await session.scalar(select(User).where(User.email == email))
    if user is None:
        user = User(email=email)
        session.add(user)
    user.is_active = True
    # For the id of a new user.
    await session.flush()
    membership = await session.scalar(
        select(UserRole).where(UserRole.role_id == role_id, UserRole.user_id == user.id)
    )
    if membership is None:
        membership = UserRole(role_id=role_id, user_id=user.id)
        session.add(membership)
    membership.active = True
